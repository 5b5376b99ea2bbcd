"""Compute stored results: ``python -m experiments [chapter [name ...]]``, by default all of them.

A result that exists is computed again. One that was interrupted continues where it was.
"""

from __future__ import annotations

import argparse

from experiments.sweep import chapters, path_of, sweeps_of


def main(arguments: list[str] | None = None) -> None:
    """Run the sweeps that were asked for, one after the other, each on every core."""
    parser = argparse.ArgumentParser(prog="python -m experiments", description=__doc__)
    parser.add_argument("chapter", nargs="?", choices=chapters(), help="two digits")
    parser.add_argument("names", nargs="*", metavar="name", help="sweeps of the chapter")
    parser.add_argument("--workers", type=int, help="processes, by default one for each core")
    parser.add_argument("--list", action="store_true", help="say what there is, compute nothing")
    given = parser.parse_args(arguments)
    for chapter in [given.chapter] if given.chapter else chapters():
        sweeps = sweeps_of(chapter)
        if unknown := set(given.names) - set(sweeps):
            parser.error(f"chapter {chapter} has {', '.join(sweeps)}, got {', '.join(unknown)}")
        for name in given.names or sweeps:
            command = f"python -m experiments {chapter} {name}"
            print(command, flush=True)
            if not given.list:
                path = path_of(chapter, name)
                print(sweeps[name].run(path, command=command, workers=given.workers))


if __name__ == "__main__":
    main()
