"""The arguments MODEL and RUN of verbs that use trained networks."""

from dpt_ray.cli.runs import ROOT


def model_place(model: str) -> str:
    """Return the path or URL of a model: as it is given, or the folder of the run in `ROOT` that it names.

    Args:
        model: path or URL of what holds trained networks; `<name>`, the newest finished run of a name; or
            `<name>/<id>`, where the beginning of the id is enough.

    Raises:
        UserError: several runs of the name have ids that begin so, or none has.
    """
    from dpt_ray.data.storage import stores
    from dpt_ray.export.folder import CONFIG_FILE
    from dpt_ray.pipeline.artifacts.run import RUN_FILE
    from dpt_ray.pipeline.artifacts.run_record import RUNS
    from dpt_ray.pipeline.artifacts.store import MANIFEST_FILE
    from dpt_ray.pipeline.runs import find_run

    if "://" in model or any(
        stores.exists(stores.join(model, file)) for file in (RUN_FILE, MANIFEST_FILE, CONFIG_FILE)
    ):
        return model
    name, _, id = model.strip("/").partition("/")
    folder = stores.join(ROOT, RUNS, name)
    if not name or not stores.exists(folder):
        return model
    return find_run(ROOT, model).url if id else folder
