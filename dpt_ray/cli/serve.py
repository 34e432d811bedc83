"""`dpt serve`: a page and an HTTP interface that draw and classify images."""

import click

from dpt_ray.cli.model_place import model_place
from dpt_ray.cli.options import example
from dpt_ray.cli.verbs import Verb
from dpt_ray.distributed.job_log import tell


@click.command(
    "serve",
    cls=Verb,
    short_help="A page on which images are drawn and classified.",
    epilog=example(
        "dpt serve digits",
        notes="The token of a service that others can reach is in DPT_SERVE_TOKEN or --token-file.",
    ),
)
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option("--host", metavar="ADDRESS", default="127.0.0.1", help="Address to listen on; another needs a token.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, help="Port to listen on; 0 is a free one.")
@click.option("--token-file", metavar="FILE", help="File with the token, which others may not read.")
@click.option(
    "--queue",
    "held",
    type=click.IntRange(1, 10_000),
    default=32,
    help="Requests held at a time; one more is answered with 429.",
)
@click.option("--batch", type=click.IntRange(1, 4096), default=32, help="Images computed together; bounds memory.")
@click.option("--max-images", type=click.IntRange(1, 4096), default=16, help="Images of one request.")
@click.option("--max-steps", type=click.IntRange(1, 10_000), default=250, help="Sampler steps of one request.")
@click.option("--max-upload-mib", type=click.IntRange(1, 256), default=10, help="Size of an uploaded image.")
@click.option(
    "--replicas",
    type=click.IntRange(min=0),
    default=0,
    help="Copies of the networks on Ray Serve (pip install 'dpt_ray[serve]'), on the cluster of RAY_ADDRESS or on this "
    "machine. 0: in this process, without Ray.",
)
@click.option("--device", metavar="DEVICE", help="cpu, cuda or cuda:1; by default a GPU if there is one.")
def serve(
    models: tuple[str, ...],
    host: str,
    port: int,
    token_file: str | None,
    held: int,
    batch: int,
    max_images: int,
    max_steps: int,
    max_upload_mib: int,
    replicas: int,
    device: str | None,
) -> None:
    """Serve trained networks until Ctrl-C or SIGTERM.

    MODEL is a run (its name, or <root>/runs/<name>), whose generator and classifier are served, or one or two folders
    that dpt export wrote. The page lets a person pick class, seed, guidance scale and sampler steps, and upload an
    image.
    """
    from dpt_ray.errors import UserError
    from dpt_ray.serving.limits import Limits
    from dpt_ray.serving.serve_models import serve_models

    if max_images > batch:
        raise UserError(f"at most --batch={batch}, not {max_images}", where="--max-images")
    limits = Limits(held, batch, max_images, max_steps, max_upload_mib * 2**20)
    places = [model_place(model) for model in models]
    tell(
        serve_models(
            places, host=host, port=port, token_file=token_file, limits=limits, replicas=replicas, device=device
        )
    )
