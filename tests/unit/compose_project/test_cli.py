# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is typed to run compose, and what is done with its answers; the process itself is a stand-in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Callable

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.cli import (
    Completed,
    ComposeCli,
    ComposeFailed,
    ComposeMissing,
    find_compose,
    last_lines,
    parse_version,
    run_process,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.command_line import (
    ProjectOptions,
    as_typed,
    effective_files,
    project_flags,
    settings,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.dotenv import parse_dotenv
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.docker import Connection
from tests.unit.compose_project.recorded import V1_CONFIG, V2_CONFIG

V2 = ("docker", "compose")
V1 = ("docker-compose",)


@dataclass
class Process:
    """Answers a version, then whatever ``answer`` says; remembers what was run."""

    version: str
    answer: Callable[[Sequence[str]], Completed] = lambda _argv: Completed(0, "", "")
    argvs: list[tuple[str, ...]] = field(default_factory=list)
    environments: list[Mapping[str, str]] = field(default_factory=list)
    directories: list[str] = field(default_factory=list)

    def __call__(self, argv: Sequence[str], cwd: str, env: Mapping[str, str], limit: float | None) -> Completed:
        if "version" in argv:
            return Completed(0, self.version, "")
        self.argvs.append(tuple(argv))
        self.environments.append(env)
        self.directories.append(cwd)
        return self.answer(argv)


def cli(process: Process, src: str = "/srv/app", program: Sequence[str] = V2, **options: tuple[str, ...]) -> ComposeCli:
    project = ProjectOptions(src, **options)  # type: ignore[arg-type]
    return find_compose(project, Connection(docker_host="unix:///e.sock"), program=program, runner=process)


@pytest.mark.parametrize(
    "text, version",
    [("2.26.1-4\n", (2, 26, 1)), ("v2.40.3-desktop.1", (2, 40, 3)), ("1.29.2", (1, 29, 2)), ("dev", ())],
)
def test_versions(text: str, version: tuple[int, ...]) -> None:
    assert parse_version(text) == version


def test_the_plugin_comes_before_the_standalone_program() -> None:
    tried = []

    def runner(argv: Sequence[str], _cwd: str, _env: Mapping[str, str], _limit: float | None) -> Completed:
        tried.append(tuple(argv[:2]))
        return Completed(0, "1.29.2", "") if argv[0] == "docker-compose" else Completed(1, "", "not a docker command")

    found = find_compose(ProjectOptions("/srv"), Connection(), runner=runner)
    assert (found.is_v1, found.invocation.program) == (True, ("docker-compose",))
    assert tried == [("docker", "compose"), ("docker-compose", "version")]


def test_no_compose_names_what_to_install() -> None:
    with pytest.raises(ComposeMissing, match="docker-compose-plugin"):
        find_compose(ProjectOptions("/srv"), Connection(), runner=lambda *_a: Completed(127, "", "no such file"))


def test_too_old_a_compose_is_none() -> None:
    with pytest.raises(ComposeMissing):
        find_compose(ProjectOptions("/srv"), Connection(), program=V1, runner=Process("1.21.0"))


def test_a_program_that_is_not_there_is_an_answer() -> None:
    assert run_process(("/no/such/program",), "/", {}, 1).rc == 127


def test_compose_runs_where_and_as_the_admin_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONTEXT", "elsewhere")
    monkeypatch.setenv("SOME_VARIABLE", "for the file")
    process = Process("2.26.1")
    cli(process).up(["db"])
    assert process.argvs == [
        ("docker", "compose", "--ansi", "never", "up", "--detach", "--no-deps", "--no-build",
         "--pull", "never", "--timeout", "120", "db")
    ]  # fmt: skip
    assert process.directories == ["/srv/app"]
    (env,) = process.environments
    assert env["DOCKER_HOST"] == "unix:///e.sock"
    assert env["PWD"] == "/srv/app"
    assert env["SOME_VARIABLE"] == "for the file"
    assert "DOCKER_CONTEXT" not in env


def test_the_engine_is_named_even_where_no_host_was_given() -> None:
    process = Process("2.26.1")
    find_compose(ProjectOptions("/srv"), Connection(), program=V2, runner=process).start(["db"])
    assert process.environments[0]["DOCKER_HOST"] == "unix:///var/run/docker.sock"


def test_tls_stands_before_the_plugin_and_after_the_standalone_program() -> None:
    connection = Connection(validate_certs=True, ca_path="/ca", client_cert="/c", client_key="/k")
    flags = ("--tlsverify", "--tlscacert", "/ca", "--tlscert", "/c", "--tlskey", "/k")
    for program, expected in ((V2, ("docker", *flags, "compose")), (V1, ("docker-compose", *flags))):
        found = find_compose(ProjectOptions("/srv"), connection, program=program, runner=Process("2.26.1"))
        assert found.invocation.base()[: len(expected)] == expected


@pytest.mark.parametrize(
    "options, flags",
    [
        (ProjectOptions("/srv"), ()),
        (ProjectOptions("/srv", files=("a.yml", "/srv/b.yml")), ("--file", "a.yml", "--file", "/srv/b.yml")),
        (ProjectOptions("/srv", files=("sub/a.yml",)), ("--project-directory", "/srv", "--file", "sub/a.yml")),
        (
            ProjectOptions("/srv", "name", profiles=("p",), env_files=("e",)),
            ("--project-name", "name", "--profile", "p", "--env-file", "e"),
        ),
    ],
)
def test_only_what_was_given_is_passed_on(options: ProjectOptions, flags: tuple[str, ...]) -> None:
    assert project_flags(options) == flags


def test_up_start_and_create() -> None:
    process = Process("2.26.1")
    compose = cli(process)
    compose.up([], wait=True, force_recreate=True)
    compose.up(["a"], no_start=True, wait=True, timeout=7)
    first, second = (argv[4:] for argv in process.argvs)
    assert first == (
        "up", "--detach", "--force-recreate", "--no-build", "--pull", "never", "--wait", "--timeout", "120",
    )  # fmt: skip
    assert second == ("up", "--no-start", "--no-deps", "--no-build", "--pull", "never", "--timeout", "7", "a")


def test_v1_removes_what_it_is_to_recreate_and_never_its_volumes() -> None:
    process = Process("1.29.2")
    cli(process, program=V1).up(["db"], force_recreate=True)
    assert [argv[3:] for argv in process.argvs] == [
        ("stop", "--timeout", "120", "db"),
        ("rm", "--force", "db"),
        ("up", "--detach", "--no-deps", "--no-build", "--timeout", "120", "db"),
    ]


def test_v1_need_not_stop_what_is_stopped() -> None:
    process = Process("1.29.2")
    cli(process, program=V1).up(["db"], force_recreate=True, stopped=True)
    assert [argv[3] for argv in process.argvs] == ["rm", "up"]


def test_no_verb_ever_deletes_volumes() -> None:
    process = Process("2.26.1")
    compose = cli(process)
    compose.rm(["db"], stop=True)
    compose.stop(["db"], timeout=5)
    compose.start(["db"])
    compose.pull(["db"])
    compose.build(["db"])
    words = {word for argv in process.argvs for word in argv}
    assert not words & {"-v", "--volumes", "-V", "--renew-anon-volumes", "down", "--remove-orphans"}


def test_extra_files_are_laid_over_those_in_use(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").touch()
    (tmp_path / "compose.override.yml").touch()
    process = Process("2.26.1")
    cli(process, str(tmp_path)).up(["db"], extra_files=["/run/extra.yml"])
    assert process.argvs[0][4:10] == (
        "--file", f"{tmp_path}/compose.yaml", "--file", f"{tmp_path}/compose.override.yml", "--file", "/run/extra.yml",
    )  # fmt: skip


def test_one_off_runs_keep_values_out_of_argv() -> None:
    process = Process("2.26.1", lambda _argv: Completed(0, "done\n", ""))
    said = cli(process).run_rm("web", ["rails", "db:migrate"], env={"SECRET": "hush-hush"})
    assert said == "done\n"
    assert process.argvs[0][4:] == ("run", "--rm", "-T", "--no-deps", "-e", "SECRET", "web", "rails", "db:migrate")
    assert process.environments[0]["SECRET"] == "hush-hush"


@pytest.mark.parametrize("version, program, said", [("2.26.1", V2, V2_CONFIG), ("1.29.2", V1, V1_CONFIG)])
def test_config_is_read_and_dollars_are_single_again(version: str, program: Sequence[str], said: str) -> None:
    process = Process(version, lambda _argv: Completed(0, said, "level=warning"))
    config = cli(process, program=program).config()
    assert config["services"]["db"]["environment"]["ODD"] == "a$b s3cret-pw"
    assert ("--format" in process.argvs[0]) == (version == "2.26.1")


def test_all_profiles_need_a_flag_in_v2_only() -> None:
    for version, program, flags in (("2.26.1", V2, ("--profile", "*")), ("1.29.2", V1, ())):
        process = Process(version, lambda _argv: Completed(0, "{}", ""))
        cli(process, program=program).config(all_profiles=True, interpolate=False)
        assert ("--profile" in process.argvs[0]) == bool(flags)
        assert process.argvs[0][-1] == "--no-interpolate"


def test_hashes() -> None:
    process = Process("2.26.1", lambda _argv: Completed(0, "db aaa\nweb bbb\n", ""))
    assert cli(process).service_hashes() == {"db": "aaa", "web": "bbb"}
    assert cli(process).service_hashes(["web", "nope"]) == {"web": "bbb"}


def test_a_failure_reads_as_typed_and_without_secrets() -> None:
    def answer(argv: Sequence[str]) -> Completed:
        if "config" in argv:
            return Completed(0, V2_CONFIG, "")
        return Completed(17, "", 'level=warning msg="x"\nno login with s3cret-pw\nErr\n')

    compose = cli(Process("2.26.1", answer), "/srv/Mein Próject")
    compose.config()
    with pytest.raises(ComposeFailed) as caught:
        compose.up(["db"])
    assert caught.value.message == "no login with ********\nErr"
    assert "s3cret" not in caught.value.msg
    assert caught.value.next_command == (
        "cd '/srv/Mein Próject' && DOCKER_HOST=unix:///e.sock docker compose up --detach --no-deps --no-build"
        " --pull never --timeout 120 db"
    )


@pytest.mark.parametrize("host, typed", [
    ("unix:///var/run/docker.sock", "cd /srv/app && docker compose start"),
    ("unix:///run/my engine.sock", "cd /srv/app && DOCKER_HOST='unix:///run/my engine.sock' docker compose start"),
])  # fmt: skip
def test_what_is_typed_reaches_the_engine_that_was_looked_at(host: str, typed: str) -> None:
    compose = cli(Process("2.26.1"))
    assert replace(compose, environment={**compose.environment, "DOCKER_HOST": host}).typed("start") == typed


def test_secrets_of_the_env_file_are_masked_before_config_was_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("# DB_PASSWORD=no\nexport DB_PASSWORD='hush # hush'\nPORT=3000 # comment\n")
    compose = cli(Process("2.26.1", lambda _argv: Completed(1, "", "bad: hush # hush on 3000")), str(tmp_path))
    with pytest.raises(ComposeFailed) as caught:
        compose.config()
    assert caught.value.message == "bad: ******** on 3000"


def test_v1_tracebacks_are_reduced_to_their_end() -> None:
    said = "Traceback (most recent call last):\n  File x\nKeyError: 'ContainerConfig'\n"
    assert last_lines(said) == ["KeyError: 'ContainerConfig'"]
    assert last_lines('level=warning msg="only this"') == ['level=warning msg="only this"']


def test_typed_commands_are_quoted() -> None:
    assert as_typed(("docker", "compose", "--ansi", "never", "run", "a b"), "/srv/x y") == (
        "cd '/srv/x y' && docker compose run 'a b'"
    )


BASES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
OVERRIDES = tuple(f"{base}.override.{end}" for base in ("compose", "docker-compose") for end in ("yml", "yaml"))


# As 2.26 and 1.29.2 answered.
@pytest.mark.parametrize(
    "present, v2, v1",
    [
        ([], [], []),
        (["docker-compose.yml"], ["docker-compose.yml"], ["docker-compose.yml"]),
        (BASES, ["compose.yaml"], ["docker-compose.yml"]),
        (BASES[:2], ["compose.yaml"], ["compose.yml"]),
        (
            ["compose.yaml", "docker-compose.override.yml"],
            ["compose.yaml", "docker-compose.override.yml"],
            ["compose.yaml", "docker-compose.override.yml"],
        ),
        (
            ["docker-compose.yml", *OVERRIDES],
            ["docker-compose.yml", "compose.override.yml"],
            ["docker-compose.yml", "docker-compose.override.yml"],
        ),
        (["compose.yaml", *OVERRIDES[1:]], ["compose.yaml", "compose.override.yaml"], None),
        (["compose.yaml", *OVERRIDES[2:]], ["compose.yaml", "docker-compose.override.yml"], None),
        (["compose.yaml", OVERRIDES[3]], ["compose.yaml", OVERRIDES[3]], ["compose.yaml", OVERRIDES[3]]),
    ],
)
def test_the_files_that_compose_finds(
    tmp_path: Path, present: Sequence[str], v2: list[str], v1: list[str] | None
) -> None:
    for name in present:
        (tmp_path / name).touch()
    options = ProjectOptions(str(tmp_path))
    assert effective_files(options, {}) == tuple(str(tmp_path / name) for name in v2)
    if v1 is not None:
        assert effective_files(options, {}, v1=True) == tuple(str(tmp_path / name) for name in v1)


# As 2.26 and 1.29.2 answered; None where it failed.
@pytest.mark.parametrize(
    "text, env, v2, v1",
    [
        ("X=b\nCOMPOSE_FILE=${X}.yml", {}, "b.yml", "b.yml"),
        ("X=b\nCOMPOSE_FILE=${X}.yml", {"X": "c"}, "c.yml", "b.yml"),
        ("X=b\nCOMPOSE_FILE='${X}.yml'", {}, "${X}.yml", "b.yml"),
        ('X=b\nCOMPOSE_FILE="$X.yml"', {}, "b.yml", "$X.yml"),
        ("COMPOSE_FILE=${Y:-c}.yml", {}, "c.yml", "c.yml"),
        ("COMPOSE_FILE=a.yml", {"COMPOSE_FILE": "b.yml"}, "b.yml", "b.yml"),
    ],
)
def test_compose_file_as_each_version_reads_it(
    tmp_path: Path, text: str, env: dict[str, str], v2: str, v1: str
) -> None:
    (tmp_path / ".env").write_text(text + "\n")
    options = ProjectOptions(str(tmp_path))
    assert effective_files(options, env) == (str(tmp_path / v2),)
    assert effective_files(options, env, v1=True) == (str(tmp_path / v1),)


def test_named_env_files_take_the_place_of_dotenv(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("COMPOSE_FILE=wrong.yml\nCOMPOSE_PROJECT_NAME=wrong\n")
    (tmp_path / "one.env").write_text("X=b\nCOMPOSE_FILE=a.yml\n")
    (tmp_path / "two.env").write_text("COMPOSE_FILE=${X}.yml\n")
    both = ProjectOptions(str(tmp_path), env_files=("one.env", "two.env"))
    assert effective_files(both, {}) == (f"{tmp_path}/b.yml",)
    assert settings(both, {"A": "1"}) == {"X": "b", "COMPOSE_FILE": "b.yml", "A": "1"}
    plain = ProjectOptions(str(tmp_path))
    assert effective_files(plain, {"COMPOSE_ENV_FILES": "one.env"}) == (f"{tmp_path}/a.yml",)
    assert effective_files(plain, {"COMPOSE_ENV_FILES": "one.env"}, v1=True) == (f"{tmp_path}/wrong.yml",)


def test_compose_file_names_the_files(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("COMPOSE_FILE=a.yml:sub/b.yml\n")
    options = ProjectOptions(str(tmp_path))
    assert effective_files(options, {}) == (f"{tmp_path}/a.yml", f"{tmp_path}/sub/b.yml")
    assert effective_files(options, {"COMPOSE_FILE": "/c.yml"}) == ("/c.yml",)
    assert effective_files(options, {"COMPOSE_PATH_SEPARATOR": ","}) == (f"{tmp_path}/a.yml:sub/b.yml",)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("A=b", {"A": "b"}),
        ("export A = 'b c' # d", {"A": "b c"}),
        ('A="b#c"', {"A": "b#c"}),
        ("A=b#c # d", {"A": "b#c"}),
        ("#A=b\n\nnonsense\nB=", {"B": ""}),
    ],
)
def test_dotenv(text: str, expected: dict[str, str]) -> None:
    assert parse_dotenv(text) == expected
