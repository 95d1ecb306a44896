"""`ornstein studio`."""

import webbrowser
from collections.abc import Sequence
from pathlib import Path

from ornstein import extras
from ornstein.cli.options import StudioPage
from ornstein.cli.parse import parse, within
from ornstein.cli.printing import say
from ornstein.errors import UsageError
from ornstein.folder.layout import must_be_run

MOST = 12  # runs on one page


def run(words: Sequence[str]) -> int:
    """Serve the page until it is stopped, or write it to a file."""
    options = parse(StudioPage, "studio", words)
    within(options, port=(1, 65535))
    folders = [Path(name).expanduser() for name in options.runs]
    if len(folders) > MOST:
        raise UsageError(f"studio shows at most {MOST} runs, and these are {len(folders)}; give fewer")
    for folder in folders:
        must_be_run(folder)
    if options.data is not None:
        from ornstein.data import find

        find(options.data)  # raises where there are none
    if not options.export:
        if options.force:
            raise UsageError("--force replaces the file of --export; leave it out")
        for module in extras.EXTRAS["studio"]:
            extras.check(module, "ornstein studio")
    from ornstein.device import choose_device

    device = str(choose_device(options.device))
    if options.export:
        return _export(options, folders, device)
    from ornstein.studio.server import serve

    def ready(address: str) -> None:
        say(f"The studio is at {address}")
        if options.host in ("0.0.0.0", "::"):
            say(
                "Every machine of the network that has this address with its token can open it, and nothing is encrypted."
            )
        say("Stop it with Ctrl-C.")
        if not options.no_browser:
            webbrowser.open(address)

    serve(folders, options.host, options.port, device, ready, options.data)
    return 0


def _export(options: StudioPage, folders: Sequence[Path], device: str) -> int:
    from ornstein.studio.exporting import write

    assert options.export is not None
    place = write(Path(options.export).expanduser(), folders, device, options.force, options.data)
    say(f"The page: {place.resolve()}")
    return 0
