"""A bundle: what a fit has learned, as a directory of JSON (and LightGBM text) files.

manifest.json   what it was fitted on, with what, and the sha256 of every other file
table.json      the compute-optimal table
levels.json     thresholds between levels, and how common each level was
difficulty/     the estimator of P(level | problem's text), if one was fitted
prefill/        the same from the generator's state after reading it, if the states were stored
pilot.json      P(level | mean verifier score of a pilot sample), if samples were scored
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from router.difficulty.base import Estimator, Prior
from router.difficulty.levels import Levels
from router.difficulty.pilot import PilotLevels
from router.models.base import GeneratorInfo, VerifierInfo
from router.models.errors import InputError
from router.models.extras import require_fit
from router.models.types import Problem
from router.rollouts.runs import Origin
from router.strategies.fleet import Fleet
from router.table import Table

if TYPE_CHECKING:
    from router.difficulty.prefill import PrefillEstimator
    from router.difficulty.text_estimator import TextEstimator

SCHEMA = 1
MANIFEST, TABLE, LEVELS, PILOT = "manifest.json", "table.json", "levels.json", "pilot.json"
DIFFICULTY, PREFILL = "difficulty", "prefill"


@dataclass(frozen=True)
class Bundle:
    """A fitted table with all that belongs to it.

    prior: share of the fitted problems in each level; stands in for an estimator.
    mix: P(level) of each fitted problem as the estimator tells it where it did not see it, shape
        (problems, levels): what a price of an average budget is found on. The prior alone where
        there is no estimator.
    manifest: provenance, as in manifest.json.
    """

    table: Table
    levels: Levels
    prior: tuple[float, ...]
    origin: Origin
    manifest: dict[str, Any]
    estimator: TextEstimator | None = None
    prefill: PrefillEstimator | None = None
    pilot: PilotLevels | None = None
    mix: tuple[tuple[float, ...], ...] = ()

    @property
    def by_text(self) -> Estimator:
        """Tells levels by the text; where it was fitted on too few problems, by the prior."""
        return self.estimator or Prior(self.prior)

    @property
    def asks(self) -> str:
        """The models that it asks, in words; of a fleet each with what a sample of it costs."""
        first, *others = self.table.members or [None]
        if first is None:
            judge = f"verifier {self.origin.verifier}" if self.origin.verifier else "no verifier"
            return f"{self.origin.model}, {judge}"
        further = (f"{one.name} {one.model} ({one.cost:g} a sample)" for one in others if one)
        return ", ".join([f"{first.name} {first.model}", *further])

    def check(
        self, generator: GeneratorInfo, verifier: VerifierInfo | None, name: str = ""
    ) -> None:
        """Make sure that a model is the one that the bundle was fitted on.

        Sampling is the caller's: a table is most of the truth at another temperature, and the
        decision says that it is another.

        name: of the model in a fleet.

        Raises:
            InputError: another generator, prompt or verifier; says how to refit.
        """
        origin = self.origin.others.get(name, self.origin)
        _check_verified(origin, verifier is not None, name)
        try:
            replace(origin, others={}).joined(Origin.of(generator, origin.sampling, verifier))
        except InputError as error:
            what = f"another model {name}" if name else "other models"
            raise InputError(
                f"the bundle was fitted on {what}: {error}; refit with `router fit`"
            ) from None

    def check_known(self, verified: bool, fleet: Fleet) -> None:
        """The part of it that needs no opened model, for all of them.

        verified: whether the first has a verifier. fleet: the terms of several models.

        Raises:
            InputError: a model is missing, the first is another, or one was fitted with a verifier
                and has none.
        """
        names = [member.name for member in self.table.members]
        missing = [name for name in names if name not in fleet]
        if missing:
            here = f"there are {', '.join(fleet)}" if fleet else "there is one, without a name"
            options = " ".join(f"--model {name}=…" for name in (missing if fleet else names))
            raise InputError(
                f"the bundle asks models {', '.join(names)}, and {here}: give {options}, or"
                " another --bundle"
            )
        if names and names[0] != next(iter(fleet)):
            raise InputError(
                f"the bundle counts in samples of {names[0]}, so that is the --model to name first"
            )
        _check_verified(self.origin, verified, names[0] if names else "")
        for name, origin in self.origin.others.items():
            _check_verified(origin, fleet[name].verified, name)

    def fitted_on(self, problem: Problem) -> bool:
        """Whether the bundle was fitted on a problem of this text, whatever its id."""
        return text_digest(problem) in self.manifest["data"]["texts"]

    # -- files ----------------------------------------------------------------------------

    def save(self, directory: Path) -> None:
        """Write the bundle; the directory appears, or is replaced, when all of it is written.

        Raises:
            InputError: the directory exists and is no bundle, or cannot be written.
        """
        if directory.exists() and not (directory / MANIFEST).is_file():
            raise InputError(f"{directory} exists and is no bundle; give another --out")
        try:
            directory.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".bundle-") as scratch:
                new, old = Path(scratch) / "new", Path(scratch) / "old"
                self._write(new)
                if directory.exists():
                    directory.rename(old)
                new.rename(directory)
        except OSError as error:
            raise InputError(f"cannot write bundle {directory}: {error}") from error

    def _write(self, directory: Path) -> None:
        directory.mkdir()
        _write_json(directory / TABLE, self.table.to_dict())
        mix = [[round(p, 4) for p in row] for row in self.mix]
        record = {**self.levels.to_dict(), "prior": list(self.prior), "mix": mix}
        _write_json(directory / LEVELS, record)
        if self.estimator is not None:
            self.estimator.save(directory / DIFFICULTY)
        if self.prefill is not None:
            self.prefill.save(directory / PREFILL)
        if self.pilot is not None:
            _write_json(directory / PILOT, self.pilot.to_dict())
        files = sorted(path for path in directory.rglob("*") if path.is_file())
        hashes = {path.relative_to(directory).as_posix(): _sha256(path) for path in files}
        _write_json(directory / MANIFEST, {**self.manifest, "files": hashes})

    @classmethod
    def load(cls, directory: Path) -> Bundle:
        """Read a bundle.

        Raises:
            InputError: it is none, is of another schema, or a file in it is missing or changed.
            NotInstalled: it holds an estimator, and what that needs is missing.
        """
        manifest = _read_json(directory / MANIFEST)
        if manifest.get("schema_version") != SCHEMA:
            raise InputError(
                f"bundle {directory} has schema {manifest.get('schema_version')!r}, and this"
                f" version reads {SCHEMA}; refit it with `router fit`"
            )
        try:
            _check_files(directory, manifest["files"])
            origin = Origin.from_dict(manifest["origin"])
            record = _read_json(directory / LEVELS)
            levels, prior = Levels.from_dict(record), tuple(map(float, record["prior"]))
            mix = tuple(tuple(map(float, row)) for row in record.get("mix") or [prior])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"bundle {directory} is damaged ({error!r}); refit it") from error
        table = Table.load(directory / TABLE)
        if table.levels != levels.count:
            raise InputError(
                f"{directory / TABLE}: levels is {table.levels}, but the bundle has {levels.count}"
            )
        estimator = _load_estimator(directory / DIFFICULTY, levels.count)
        prefill = _load_prefill(directory / PREFILL, levels.count)
        pilot = _load_pilot(directory / PILOT, levels.count)
        return cls(table, levels, prior, origin, manifest, estimator, prefill, pilot, mix)


def shipped_bundle(model: str) -> Path | None:
    """Directory of the bundle that comes with `router` for a model of that short name, if any."""
    directory = Path(__file__).parent / "bundles" / model
    return directory if (directory / MANIFEST).is_file() else None


def _check_files(directory: Path, hashes: Mapping[str, str]) -> None:
    for name, digest in hashes.items():
        path = directory / name
        if not path.is_file():
            raise InputError(f"bundle {directory} lacks {name}; refit it with `router fit`")
        # A table may be edited by hand, as long as it makes sense.
        if name != TABLE and _sha256(path) != digest:
            raise InputError(f"{path} was changed since the fit; refit with `router fit`")


def _load_estimator(directory: Path, levels: int) -> TextEstimator | None:
    if not directory.is_dir():
        return None
    require_fit("the bundle's estimator of difficulty")
    from router.difficulty.text_estimator import TextEstimator

    estimator = TextEstimator.load(directory)
    _check_levels(directory, estimator.count, levels)
    return estimator


def _load_prefill(directory: Path, levels: int) -> PrefillEstimator | None:
    if not directory.is_dir():
        return None
    require_fit("the bundle's estimator of difficulty")
    from router.difficulty.prefill import PrefillEstimator

    prefill = PrefillEstimator.load(directory)
    _check_levels(directory, prefill.count, levels)
    return prefill


def _load_pilot(path: Path, levels: int) -> PilotLevels | None:
    if not path.is_file():
        return None
    pilot = PilotLevels.from_dict(_read_json(path))
    _check_levels(path, pilot.count, levels)
    return pilot


def _check_levels(path: Path, estimated: int, levels: int) -> None:
    if estimated != levels:
        raise InputError(
            f"{path} estimates {estimated} levels, but the bundle has {levels};"
            " refit with `router fit`"
        )


def _check_verified(origin: Origin, verified: bool, name: str) -> None:
    if origin.verifier is not None and not verified:
        of, option = (f" for {name}", f" {name}=…") if name else ("", "")
        raise InputError(
            f"the bundle was fitted with verifier {origin.verifier!r}{of} and there is none;"
            f" give it with --verifier{option}, or refit with `router fit`"
        )


def text_digest(problem: Problem) -> str:
    """What a manifest remembers of a problem that it was fitted on."""
    return hashlib.sha256(problem.text.strip().encode()).hexdigest()[:16]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", "utf-8")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path.parent} is no bundle: it has no {path.name}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}") from None
    if not isinstance(value, dict):
        raise InputError(f"{path} is no JSON object")
    return value
