"""nbgrader's own tools on the course's notebooks: ``make grade``, after ``make course``.

nbgrader takes the instructor's notebooks as its source and makes the student's versions, which must
be those of tools/course.py. Then it grades one chapter twice: handed in with the answers, where
every check must pass, and as a student received it, where none may. Every chapter is graded with
COURSE=all.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
MADE = ROOT / "_build" / "course"
FOLDER = ROOT / "_build" / "grade"
GRADED = "02_proportional_limit"


def _run(command: list[str | Path], **options: object) -> str:
    done = subprocess.run(command, text=True, capture_output=True, **options)  # type: ignore[call-overload]
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done.stdout


def environment() -> Path:
    """An environment with nbgrader, whose kernel is the book's; its directory of programs."""
    folder = FOLDER.parent / "nbgrader"
    if not (folder / "installed").exists():
        _run([sys.executable, "-m", "venv", "--clear", folder])
        requirements = ROOT / "requirements-nbgrader.txt"
        _run([folder / "bin" / "pip", "install", "-q", "-r", requirements])
        (folder / "installed").touch()
    kernel = folder / "share" / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    described = {"argv": command, "display_name": "Python 3", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(described), encoding="utf8")
    return folder / "bin"


def lay_out(chapters: list[str]) -> None:
    """A course as nbgrader wants it: a folder for each assignment, and what students hand in."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    hand_in = {"diligent": "instructor", "absent": "student"}
    for chapter in chapters:
        for where, version in [(Path("source"), "instructor")] + [
            (Path("submitted") / student, version) for student, version in hand_in.items()
        ]:
            (FOLDER / where / chapter).mkdir(parents=True)
            shutil.copy(MADE / version / f"{chapter}.ipynb", FOLDER / where / chapter)
    # Chapters read ../results.
    for place in ("source", "release", "autograded/diligent", "autograded/absent"):
        (FOLDER / place).mkdir(parents=True, exist_ok=True)
        (FOLDER / place / "results").symlink_to(ROOT / "results")
    (FOLDER / "nbgrader_config.py").write_text(
        "c = get_config()\n"
        "c.CourseDirectory.course_id = 'tlnb'\n"
        "c.ExecutePreprocessor.timeout = 300\n"
        "c.ClearSolutions.text_stub = '*Your answer here.*'\n",
        encoding="utf8",
    )


def differences(chapter: str) -> list[str]:
    """Cells of nbgrader's student version that are not those of tools/course.py."""
    theirs = nbformat.read(FOLDER / "release" / chapter / f"{chapter}.ipynb", as_version=4)
    ours = nbformat.read(MADE / "student" / f"{chapter}.ipynb", as_version=4)
    pairs = zip(theirs.cells, ours.cells, strict=True)
    return [b.source for a, b in pairs if a.source.strip() != b.source.strip()]


def scores(chapter: str) -> dict[str, tuple[float, float]]:
    """By student: points of the checks earned, and how many there were."""
    query = """
        SELECT student.id, SUM(COALESCE(grade.auto_score, 0)), SUM(grade_cell.max_score)
        FROM grade JOIN grade_cells grade_cell ON grade.cell_id = grade_cell.id
        JOIN base_cell ON base_cell.id = grade_cell.id
        JOIN submitted_notebook ON grade.notebook_id = submitted_notebook.id
        JOIN submitted_assignment ON submitted_notebook.assignment_id = submitted_assignment.id
        JOIN student ON submitted_assignment.student_id = student.id
        JOIN notebook ON submitted_notebook.notebook_id = notebook.id
        WHERE notebook.name = ? AND base_cell.name LIKE '%-check' GROUP BY student.id"""
    with sqlite3.connect(FOLDER / "gradebook.db") as book:
        return {name: (earned, most) for name, earned, most in book.execute(query, (chapter,))}


def main() -> None:
    """Make the students' versions with nbgrader, and grade."""
    if not MADE.is_dir():
        sys.exit("There are no course notebooks yet: run make course first")
    chapters = sorted(path.stem for path in (MADE / "instructor").glob("*.ipynb"))
    graded = chapters if os.environ.get("COURSE") == "all" else [GRADED]
    programs = environment()
    lay_out(chapters)
    variables = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    variables["PATH"] = f"{programs}{os.pathsep}{os.environ['PATH']}"
    at = {"cwd": FOLDER, "env": os.environ | variables}
    for chapter in chapters:
        _run([programs / "nbgrader", "generate_assignment", chapter, "--create", "--force"], **at)
        if wrong := differences(chapter):
            sys.exit(f"{chapter}: nbgrader's student version differs in {len(wrong)}:\n{wrong[0]}")
    print(f"nbgrader makes the same student's versions of {len(chapters)} chapters")
    for chapter in graded:
        _run([programs / "nbgrader", "autograde", chapter, "--create", "--force"], **at)
        found = scores(chapter)
        print(f"{chapter}: with the answers {found['diligent']}, without {found['absent']}")
        earned, most = found["diligent"]
        if earned != most or not most or found["absent"][0]:
            sys.exit("Every check should pass with the answers, and none without")


if __name__ == "__main__":
    main()
