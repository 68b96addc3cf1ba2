# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The verbs of ``python -m tests.sandbox``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from . import apt, compose_v1, engine, images, loopfs, recipes

# Program → the package that brings it.
PROGRAMS = {
    **{loopfs.MAKE[kind][0]: package for kind, package in loopfs.PACKAGES.items()},
    "mmdebstrap": "mmdebstrap",
    "ip": "iproute2",
    "setfacl": "acl",
}


def main(argv: Sequence[str]) -> int:
    """Run one verb and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.sandbox", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("up", help="use the engine that answers, or install and start one")
    verbs.add_parser("env", help="print the shell lines that select the engine")
    build = verbs.add_parser("images", help="pull or build images (default: those of the demo)")
    build.add_argument("names", nargs="*", metavar="NAME", help=", ".join(recipes.RECIPES))
    verbs.add_parser("programs", help="install the programs that the tests use, where that is possible")
    verbs.add_parser("prepare", help="make all that `make test` needs: its images and compose 1.29")
    verbs.add_parser("down", help="stop the engine that the sandbox started")
    verbs.add_parser("clean", help="remove all containers, volumes, images and the engine of the sandbox")
    args = parser.parse_args(argv)
    handlers: dict[str, Callable[[argparse.Namespace], int]] = {
        "up": _up, "env": _env, "images": _images, "programs": _programs, "prepare": _prepare,
        "down": _down, "clean": _clean,
    }  # fmt: skip
    return handlers[args.verb](args)


def _up(_args: argparse.Namespace) -> int:
    found = engine.up()
    version = found.docker("version", "--format", "{{.Server.Version}}")
    print(f"engine {version} at {found.host} ({'the sandbox' if found.ours else 'the machine'}'s own)")
    return 0


def _env(_args: argparse.Namespace) -> int:
    print("\n".join(engine.env_lines(engine.up())))
    return 0


def _images(args: argparse.Namespace) -> int:
    for built in images.ensure(args.names or recipes.DEMO, engine.up()):
        print(f"{built.ref}  {built.how}")
    return 0


def _programs(_args: argparse.Namespace) -> int:
    if not apt.can_install():
        print("nothing can be installed here: tests that need more programs than there are will be skipped")
        return 0
    for program, package in PROGRAMS.items():
        print(apt.ensure_program(program, package))
    return 0


def _prepare(_args: argparse.Namespace) -> int:
    host = engine.up()
    with ThreadPoolExecutor(images.WORKERS) as pool:
        made = pool.map(lambda key: images.ensure([key], host), recipes.TESTED)
        first_version = pool.submit(compose_v1.compose_v1)
        for built in made:
            print(*(f"{one.ref}  {one.how}" for one in built), sep="\n")
        print(first_version.result())
    return 0


def _down(_args: argparse.Namespace) -> int:
    print("engine stopped" if engine.down() else "no engine of the sandbox's own runs")
    return 0


def _clean(_args: argparse.Namespace) -> int:
    print("\n".join(engine.clean()) or "nothing to remove")
    return 0
