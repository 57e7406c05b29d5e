# Read by bin/touchlog and bin/test: finds a Python, has bin/environment.py make the environment, and
# leaves its interpreter in $python. $root is the checkout; $1 names the lock (requirements, requirements-test).

# The caller's Python settings must not reach ours; a folder named bin/ or domain/ in the working directory neither.
# Compiled modules are kept beside them where that can be: a part, or a command, starts in two thirds of the time.
unset PYTHONHOME PYTHONSTARTUP VIRTUAL_ENV __PYVENV_LAUNCHER__ PYTHONDONTWRITEBYTECODE
PYTHONPATH=$root PYTHONNOUSERSITE=1 PYTHONSAFEPATH=1
export PYTHONPATH PYTHONNOUSERSITE PYTHONSAFEPATH

find_python() {
    # The environment's own interpreter first: it is there on every start but the first, and quick.
    for python in "$root/.venv/bin/python" python3 python3.14 python3.13 python3.12 python3.11 python \
        /usr/bin/python3 /usr/local/bin/python3 /opt/homebrew/bin/python3; do
        if "$python" -I -S -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            return 0
        fi
    done
    echo "touchlog: no Python 3.11 or newer found (looked for python3, python3.11 to python3.14)." >&2
    echo "Install one, for example: apt install python3 python3-venv | dnf install python3.12 | brew install python" >&2
    exit 1
}

find_python
python=$("$python" -I "$root/bin/environment.py" "$root" "$1") || exit 1
