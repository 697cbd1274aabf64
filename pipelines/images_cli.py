"""`headrace images`: what a release pulls, its digests, and moving it to another registry."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from components.common.step import VERSION

if TYPE_CHECKING:
    from pipelines.images import Reference

images_app = typer.Typer(
    help="List what a release pulls, pin it by digest, move it to another registry.", no_args_is_help=True
)
console = Console(highlight=False)

Lock = Annotated[Path, typer.Option(help="Where the lock for `headrace cut --images` is written.")]
Manifests = Annotated[
    Path | None,
    typer.Option(help="Also pin the images of this kustomization: manifests/overlays/prod/images/kustomization.yaml."),
]
DEFAULT_LOCK = Path("images.lock.yaml")


@images_app.command("list")
def list_(
    images: Annotated[
        Path | None, typer.Option(help="A release's images.lock.yaml; without it own images go by version.")
    ] = None,
) -> None:
    """List what a release needs: its own images, their base, and what runs beside them."""
    from pipelines.images import by_version, needed, read_images

    for image in needed(read_images(images) if images else by_version()):
        console.print(f"{image.reference}  [dim]# {image.purpose}[/]", soft_wrap=True)


@images_app.command()
def mirror(
    images: Annotated[Path, typer.Option(help="The release's images.lock.yaml.")],
    to: Annotated[str, typer.Option(help="Registry and folder, such as registry.example.com/headrace.")],
    lock: Lock = DEFAULT_LOCK,
    manifests: Manifests = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the commands.")] = False,
) -> None:
    """Copy everything a release needs to another registry, digests preserved, and write the new lock.

    What is already there is not copied again. Log in first, with `skopeo login`.
    """
    from pipelines.images import copy_command, needed, plan_mirror, read_images, write_lock
    from pipelines.images import mirror as run

    planned = plan_mirror(needed(read_images(images)), to)
    if dry_run:
        for image, target in planned:
            _say(shlex.join(copy_command(image.reference, target)))
        return
    arrived = {}
    with console.status("asking the registries …") as status:
        for image, target, copied in run(planned):
            arrived[image] = target
            _say(f"{'copied' if copied else 'there '}  {target}")
            status.update(f"{len(arrived)} of {len(planned)} …")
    write_lock(lock, {image.target: target for image, target in arrived.items() if image.target})
    _say(f"wrote {lock}")
    if manifests:
        _pin(manifests, {image.manifest_name: target for image, target in arrived.items()})


@images_app.command("lock")
def lock_(
    registry: Annotated[str, typer.Argument(help="Where they were pushed: registry.example.com/headrace.")],
    tag: Annotated[str, typer.Option(help="Their tag.")] = VERSION,
    lock: Lock = DEFAULT_LOCK,
    manifests: Manifests = None,
) -> None:
    """Ask a registry for the digests of pushed images, and write the lock that a release is cut with."""
    from pipelines.images import pushed, write_lock

    own = pushed(registry, tag)
    write_lock(lock, own)
    _say(f"wrote {lock}")
    if manifests:
        _pin(manifests, {f"headrace/{target}": reference for target, reference in own.items()})


def _say(line: str) -> None:
    console.print(line, soft_wrap=True, markup=False)


def _pin(manifests: Path, pins: "dict[str, Reference]") -> None:
    from pipelines.images import pin_manifests

    _say(f"pinned {', '.join(pin_manifests(manifests, pins))} in {manifests}")
