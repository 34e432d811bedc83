"""The heads of a probe as modules: they map normalised features to logits, in files, exports and graphs."""

import torch
from torch import Tensor, nn

from dpt_ray.core.probe.mixture import Mixture
from dpt_ray.core.probe.principal import Projection


class LinearHead(nn.Linear):
    """The head of logistic regression: W x.

    Args:
        num_features: D.
        num_classes: C.
    """

    def __init__(self, num_features: int, num_classes: int):
        super().__init__(num_features, num_classes, bias=False)


class MixtureHead(nn.Module):
    """The head of a mixture: log p(y | x), p(y | x) = sum_l p(l | x) beta_{y,l}.

    Shapes: D features, d principal components, L components, C classes.

    Args:
        num_features: D.
        num_classes: C.
        dimensions: d.
        components: L.
    """

    mean: Tensor
    basis: Tensor
    constants: Tensor
    centres: Tensor
    whitening: Tensor
    classes: Tensor

    def __init__(self, num_features: int, num_classes: int, dimensions: int, components: int):
        super().__init__()
        self.in_features, self.out_features = num_features, num_classes
        self.dimensions, self.components = dimensions, components
        for name, shape in {
            "mean": (num_features,),
            "basis": (dimensions, num_features),
            "constants": (components,),
            "centres": (components, dimensions),
            "whitening": (components, dimensions, dimensions),
            "classes": (components, num_classes),
        }.items():
            self.register_buffer(name, torch.zeros(shape))

    @classmethod
    def fitted(cls, projection: Projection, mixture: Mixture) -> "MixtureHead":
        """Return the head of a fitted mixture of projected features."""
        components, dimensions = mixture.means.shape
        head = cls(projection.basis.shape[1], mixture.classes.shape[1], dimensions, components)
        factors = mixture.factors.expand(components, -1, -1).contiguous()
        diagonal = factors.diagonal(dim1=1, dim2=2)
        identity = torch.eye(dimensions, dtype=torch.float64, device=factors.device)
        whitening = torch.linalg.solve_triangular(factors, identity.expand_as(factors), upper=False)
        head.load_state_dict(
            {
                "mean": projection.mean.float(),
                "basis": projection.basis.float(),
                "constants": (mixture.weights.log() - diagonal.log().sum(1)).float(),
                "centres": torch.einsum("lde,le->ld", whitening, mixture.means).float(),
                "whitening": whitening.float(),
                "classes": mixture.classes.float(),
            }
        )
        return head

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (N, C) of normalised features (N, D)."""
        points = (features - self.mean) @ self.basis.T
        whitened = torch.einsum("lde,ne->nld", self.whitening, points) - self.centres
        joint = self.constants - whitened.square().sum(2) / 2
        return (joint.softmax(1) @ self.classes).clamp_min(torch.finfo(torch.float32).tiny).log()


Head = LinearHead | MixtureHead
