"""The `tiltyard` command. A new one is a function in a module of this package, and a line below."""

import os
import sys

import typer
from rich.markup import escape

from jobs.cli.alerts import alerts
from jobs.cli.apply import apply
from jobs.cli.carried_out import print_json
from jobs.cli.compare import compare
from jobs.cli.deployment import deploy, undeploy
from jobs.cli.drift import DRIFT, drift
from jobs.cli.drift_history import drift_history
from jobs.cli.feedback import feedback
from jobs.cli.inventory import list_, show
from jobs.cli.label_sample import label_sample
from jobs.cli.operator_key import operator_key
from jobs.cli.publish import publish
from jobs.cli.quality import quality
from jobs.cli.reference import reference
from jobs.cli.rollout import challenge, promote, retire, rollback, weights
from jobs.cli.serve import serve
from jobs.cli.standing import history, status
from jobs.cli.traffic import traffic
from jobs.cli.train import train
from jobs.cli.tune import TUNE, tune
from jobs.printing import err
from models.errors import TiltyardError

app = typer.Typer(
    help="Put TensorFlow and ONNX models into production on Ray Serve.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

# In the order of --help.
app.command()(train)
app.command()(publish)
app.command(name="list")(list_)
app.command()(show)
app.command()(reference)
app.command()(deploy)
app.command()(undeploy)
app.command()(apply)
app.command()(challenge)
app.command()(weights)
app.command()(promote)
app.command()(rollback)
app.command()(retire)
app.command()(status)
app.command()(compare)
app.command()(history)
app.command(help=DRIFT)(drift)
app.command(name="drift-history")(drift_history)
app.add_typer(alerts, name="alerts")
app.add_typer(feedback, name="feedback")
app.command()(quality)
app.command(name="label-sample")(label_sample)
app.add_typer(traffic, name="traffic")
app.command(help=TUNE)(tune)
app.command()(serve)
app.command(name="operator-key")(operator_key)


def main() -> None:
    """Run the command; a refusal is one line on stderr (with --json an object on stdout) and exit status 1."""
    # Read when ray is imported: use the token in ~/.ray/auth_token or RAY_AUTH_TOKEN.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        app()
    except TiltyardError as error:
        if "--json" in sys.argv[1:]:
            print_json(error={"code": error.code, "message": error.message})
            sys.exit(1)
        err.print(f"[bold red]error[/] ({error.code}): {escape(error.message)}", soft_wrap=True)
        sys.exit(1)
