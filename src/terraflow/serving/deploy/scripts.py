"""What is run on the other machine, by its sh, in the deployment's folder, which is $ROOT.

Variables are the release SHA; PYTHON and LIBRARIES, where a Python was brought; SCRIPT, WHAT and
FREE of its start; UNIT; SECONDS_ to wait; and the number of releases KEPT, and one.
"""

__all__ = [
    "AWAIT",
    "ENVIRONMENT",
    "PRUNE",
    "REGISTRY_FILE",
    "START",
    "STOP",
    "SWITCH",
    "TAKE_TOKEN",
    "TRIAL",
]

#: With the token of the registry that a server follows, for all releases.
REGISTRY_FILE = "registry_token"
#: The script comes on ssh's input, so that no list of processes shows the token.
TAKE_TOKEN = f"""
printf 'Authorization: Bearer %s\\n' "$TOKEN" > new && mv new {REGISTRY_FILE}
"""

ENVIRONMENT = """
cd "releases/$SHA" && rm -f .complete || exit 1
printf %s "$LIBRARIES" > .libraries && . ./.libraries || exit 1
make --no-print-directory $PYTHON .venv/.ready 1>&2 && touch .complete
"""
#: The trial of a deployment that was interrupted may still run, and ends by itself.
TRIAL = """
exec 9> .trial.lock && flock --wait "$SECONDS_" 9 || exit 1
rm -rf trial && mkdir trial && cd "releases/$SHA" || exit 1
printf %s "$SCRIPT" > .start && chmod 700 .start && printf %s "$WHAT" > .what || exit 1
for name in $FREE; do export "TERRAFLOW_${name}_PORT=0"; done
export TERRAFLOW_VAR="$ROOT/trial"
./.start --detach 1>&2; code=$?
. ./.libraries && .venv/bin/invoke down 1>&2
cd "$ROOT" && rm -rf trial
exit $code
"""
#: `mv -T` puts a new link in place of the old one at once.
SWITCH = """
old=$(readlink current || true)
if [ -n "$old" ] && [ "$old" != "releases/$SHA" ]; then
    ln -sfn "$old" previous.new && mv -T previous.new previous || exit 1
fi
ln -sfn "releases/$SHA" current.new && mv -T current.new current
"""
AWAIT = """
cd current && . ./.libraries || exit 1
.venv/bin/python -m terraflow.serving.deploy.ready "$(cat .what)" "$SECONDS_"
"""
PRUNE = """
cd releases && ls -t | tail -n +$KEPT | while read -r name; do
    case "releases/$name" in
        "$(readlink ../current)" | "$(readlink ../previous)") ;;
        *) rm -rf "./$name" ;;
    esac
done
cd "$ROOT/models" && for name in *; do
    grep -qsF "models/$name" ../releases/*/.start || rm -rf "./$name"
done
"""
STOP = """
if systemctl --user show-environment > /dev/null 2>&1; then
    systemctl --user stop "$UNIT" 2> /dev/null || true
fi
if [ -x current/.venv/bin/invoke ]; then
    (cd current && . ./.libraries && .venv/bin/invoke down) || exit 1
fi
"""
START = """
if systemctl --user show-environment > /dev/null 2>&1; then
    mkdir -p "$HOME/.config/systemd/user" || exit 1
    cp unit "$HOME/.config/systemd/user/$UNIT" || exit 1
    loginctl enable-linger 2> /dev/null ||
        echo "linger can't be switched on: the service ends with the user's last session" >&2
    systemctl --user daemon-reload && systemctl --user enable --quiet "$UNIT" || exit 1
    systemctl --user restart "$UNIT" || exit 1
else
    # ssh ends when nobody holds what it reads
    (exec setsid nohup current/.start > var/deploy.log 2>&1 < /dev/null) > /dev/null 2>&1 &
fi
"""
