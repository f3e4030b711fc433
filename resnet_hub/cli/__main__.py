"""``resnet-hub``: the command table and what every command shares."""

import sys
import traceback
from importlib import import_module
from tempfile import NamedTemporaryFile

from resnet_hub import __version__
from resnet_hub.cli import stdout
from resnet_hub.errors import ResNetHubError, UnknownName, did_you_mean, printable
from resnet_hub.weights.tokens import without_token

# command: (module, one line); the module's function of the command's name takes its arguments.
COMMANDS = {
    "fit": ("resnet_hub.cli.fit", "train by a recipe; test and export at the end"),
    "finetune": ("resnet_hub.cli.finetune", "make a net of a folder of your pictures"),
    "recipe": ("resnet_hub.cli.recipe", "show recipes, compare two, check one before it runs"),
    "tune": ("resnet_hub.cli.tune", "find a learning rate or a batch size to begin with"),
    "data": ("resnet_hub.cli.data", "check a data set for damage before a run"),
    "test": ("resnet_hub.cli.test", "score a model folder or a run on a data set"),
    "probe": ("resnet_hub.cli.probe", "how good a net's features are for a data set, untrained"),
    "study": ("resnet_hub.cli.study", "what several nets, trained side by side, say together"),
    "reproduce": ("resnet_hub.cli.reproduce", "a paper's table beside what was measured here"),
    "verify": ("resnet_hub.cli.publish", "check a model folder, and its scores if data is given"),
    "push": ("resnet_hub.cli.publish", "upload a model folder to the Hugging Face Hub"),
    "predict": ("resnet_hub.cli.models", "name what pictures show"),
    "mistakes": ("resnet_hub.cli.mistakes", "draw what a net is wrong about and most sure of"),
    "gradcam": ("resnet_hub.cli.gradcam", "show where in pictures a net finds what it names"),
    "plot": ("resnet_hub.cli.plot", "learning curves of several runs in one picture"),
    "report": ("resnet_hub.cli.report", "one page of a run, a study or a model"),
    "compare": ("resnet_hub.cli.compare", "what models cost, and how often they are wrong"),
    "list": ("resnet_hub.cli.nets", "every net: parameters, multiply-adds, published error"),
    "info": ("resnet_hub.cli.nets", "one net or model folder in detail"),
    "export": ("resnet_hub.cli.export", "turn a run into a model folder, ONNX or torch.export"),
    "cache": ("resnet_hub.cli.cache", "list or remove fetched weights and kept answers"),
    "convert": ("resnet_hub.cli.convert", "turn other projects' checkpoints into ours, and back"),
}


def main(argv: list[str] | None = None) -> int:
    """Run one command and return the exit code.

    Args:
        argv: Arguments without the program's name; by default the process's.
    """
    stdout.escape()
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        return _run(arguments)
    except BrokenPipeError:  # the reader, `head` perhaps, has seen enough
        stdout.close()
        return 0
    except (ResNetHubError, OSError) as error:
        return _refused(str(error), debug)
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # a library's refusal that none of ours foresaw, or a fault
        return _refused(f"{type(error).__name__}: {error} (traceback: {_kept(error)})", debug)


def _refused(reason: str, debug: bool) -> int:
    if debug:
        print(without_token(traceback.format_exc()), file=sys.stderr)
    line = without_token(" ".join(reason.split()))
    print(f"resnet-hub: {printable(line)}", file=sys.stderr)
    return 1


def _kept(error: Exception) -> str:
    """Return the name of a file that keeps the traceback."""
    with NamedTemporaryFile("w", prefix="resnet-hub-", suffix=".txt", delete=False) as file:
        file.write(without_token("".join(traceback.format_exception(error))))
    return file.name


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return 0
    if arguments[0] == "--version":
        print(f"resnet-hub {__version__}")
        return 0
    name = arguments[0]
    if name not in COMMANDS:
        hint = did_you_mean(name, COMMANDS) or "; `resnet-hub --help` shows them"
        raise UnknownName(f"no command is called {name!r}{hint}")
    module, _ = COMMANDS[name]
    code: int = getattr(import_module(module), f"{name}_command")(arguments[1:])
    return code


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {line}" for name, (_, line) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: resnet-hub COMMAND ...",
            "",
            *lines,
            "",
            "`resnet-hub COMMAND --help` explains one; --debug shows an error's traceback.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
