#!/usr/bin/env bash
# Makes the virtual environment on a cluster of the Digital Research Alliance of Canada (Narval and its like).
# The walkthrough's python/3.10 is too old: Snakemake 9, its SLURM plugin and NumPy 2.4 need Python 3.11.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
clone=$(dirname "$here")
requirements=$here/requirements-alliance.txt
ranges=$here/requirements.txt
directory=$HOME/virtualenvs/qa
python_module=python/3.11
arrow_module=arrow

usage() {
  cat <<EOF
usage: envs/setup_alliance.sh [--python MODULE] [--arrow MODULE] [DIRECTORY]

Loads the modules gcc, $arrow_module and $python_module, makes a virtual environment in DIRECTORY (default: $directory)
and installs envs/requirements-alliance.txt into it from the cluster's own wheels, then this clone's library and its
command \`qa\`. Run it on a login node, as often as you like: a finished environment is only checked, an unfinished or
damaged one is made anew.

DIRECTORY must be in your home or project space: scratch is purged of files older than 60 days.
--python, --arrow: other versions of these modules, such as --arrow arrow/21.0.0 (module spider arrow lists them).
EOF
}

# fail SENTENCE...: each on a line of its own: what is wrong, then what to do
fail() {
  printf 'setup_alliance.sh: %s\n' "$1" >&2
  shift
  (($# == 0)) || printf '  %s\n' "$@" >&2
  exit 1
}

while (($#)); do
  case $1 in
    -h | --help) usage && exit ;;
    --python | --arrow)
      [[ -n ${2:-} ]] || fail "$1 needs the name of a module, such as ${1#--}/VERSION"
      printf -v "${1#--}_module" '%s' "$2"
      shift 2
      ;;
    -*) fail "unknown option $1" "envs/setup_alliance.sh --help lists the options" ;;
    *) directory=$1 && shift ;;
  esac
done

directory=$(realpath -m -- "$directory")
marker=$directory/.setup_alliance # holds `unfinished` or `finished`

refuse_scratch() {
  local scratch
  for scratch in "${SCRATCH:-}" "$HOME/scratch" "$HOME/links/scratch" /scratch; do
    [[ -n $scratch ]] || continue
    scratch=$(realpath -m -- "$scratch")
    [[ $directory/ != "$scratch"/* ]] || fail "$directory is in scratch, where files older than 60 days are purged:" \
      "an environment there breaks bit by bit. Name a directory in your home or project space," \
      "such as $HOME/virtualenvs/qa"
  done
}

# Scripts inherit no shell functions: `module` is defined by a file that login shells read.
find_modules() {
  local file
  for file in "${LMOD_PKG:+$LMOD_PKG/init/bash}" "${MODULESHOME:+$MODULESHOME/init/bash}" \
    /cvmfs/soft.computecanada.ca/config/profile/bash.sh /etc/profile.d/z-00-lmod.sh /etc/profile.d/z00_lmod.sh \
    /etc/profile.d/lmod.sh /etc/profile.d/modules.sh /usr/share/lmod/lmod/init/bash; do
    [[ $(type -t module) != function ]] || return 0
    [[ -r $file ]] || continue
    set +eu # these files are not written for strict shells
    # shellcheck source=/dev/null
    source "$file" >/dev/null
    set -eu
  done
  [[ $(type -t module) == function ]] || fail "there is no \`module\` command here, and no file that defines it" \
    "On a cluster of the Alliance run this on a login node, from a login shell (bash -l)." \
    "Elsewhere: python3 -m venv DIR && DIR/bin/pip install -r envs/requirements.lock"
}

# load MODULE HINT
load() {
  local said status=0
  set +eu
  module load "$1" 2>"$messages" || status=$?
  set -eu
  said=$(<"$messages")
  ((status == 0)) || fail "the module $1 cannot be loaded" "\`module spider ${1%%/*}\` lists the versions there are. $2" \
    "What the module command said:" "${said//$'\n'/$'\n'  }"
}

python_version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }

check_modules() {
  local version wanted
  version=$(python_version python)
  ((${version%%.*} > 3 || (${version%%.*} == 3 && ${version##*.} >= 11))) ||
    fail "Python $version of the module $python_module is too old: Snakemake 9, its SLURM plugin and NumPy 2.4 need 3.11" \
      "(the walkthrough's python/3.10 was right for older versions). Leave --python away, or name python/3.11 or newer"
  command -v virtualenv >/dev/null ||
    fail "the module $python_module brings no \`virtualenv\` command" "Name another with --python: module spider python"
  wanted=$(sed -n 's/^pyarrow>=\([0-9]*\).*/\1/p' "$ranges")
  version=$(python -c 'import pyarrow; print(pyarrow.__version__)' 2>"$messages") ||
    fail "the Python of $python_module cannot import the pyarrow of the module $arrow_module" \
      "\`module spider $arrow_module\` tells for which Pythons it is; then name a pair with --arrow and --python." \
      "Python said: $(tail -n 1 "$messages")"
  ((${version%%.*} >= wanted)) ||
    fail "pyarrow $version of the module $arrow_module is too old: $wanted or newer is needed" \
      "\`module spider arrow\` lists the versions; run again with, for example, --arrow arrow/$wanted.0.0"
}

check() { "$directory/bin/python" "$here/check_versions.py" "$@" "$ranges" "$requirements"; }

is_right() { [[ $(python_version "$directory/bin/python") == "$(python_version python)" ]] && check; }

install() {
  local log=$directory/setup.log missing
  echo "Installing envs/requirements-alliance.txt from the cluster's wheels: some minutes ($log)"
  "$directory/bin/python" -m pip install --no-index --disable-pip-version-check -r "$requirements" >"$log" 2>&1 || {
    missing=$(sed -n 's/^ERROR: No matching distribution found for //p' "$log" | head -n 1)
    [[ -z $missing ]] || fail "there is no wheel here for $missing" \
      "\`avail_wheels '${missing%% *}'\` shows which versions there are, and" \
      "\`avail_wheels -r envs/requirements-alliance.txt --not-available\` everything that is missing." \
      "Put a version there is, within the range of envs/requirements.txt, into envs/requirements-alliance.txt," \
      "and run this again"
    fail "pip could not install envs/requirements-alliance.txt; the end of $log:" \
      "$(tail -n 8 "$log" | sed '2,$s/^/  /')"
  }
}

# The clone that the command `qa` of the environment runs; nothing where there is no such command.
clone_of_library() {
  "$directory/bin/python" -I -c 'from qa.common import installation; print(installation.clone())' 2>/dev/null || true
}

install_library() {
  local log=$directory/setup.log
  "$directory/bin/python" -m pip install --no-index --no-deps --no-build-isolation --disable-pip-version-check \
    --editable "$clone" >>"$log" 2>&1 || fail "pip could not install the library of $clone; the end of $log:" \
    "$(tail -n 8 "$log" | sed '2,$s/^/  /')"
}

make() {
  [[ ! -e $directory ]] || find "$directory" -mindepth 1 ! -name "${marker##*/}" -delete
  mkdir -p "$directory"
  echo unfinished >"$marker"
  virtualenv --quiet --no-download "$directory" || fail "virtualenv could not make $directory, see above"
  install
  echo "Checking that everything imports"
  check --import || fail "the environment in $directory is not right, see above" \
    "Correct envs/requirements-alliance.txt, or the modules, and run this again: it starts anew"
  install_library
  echo finished >"$marker"
}

refuse_scratch
messages=$(mktemp)
trap 'rm -f "$messages"' EXIT
find_modules
load gcc "Is this a cluster of the Alliance?"
load "$arrow_module" "Name one with --arrow."
load "$python_module" "Name one, 3.11 or newer, with --python."
check_modules

if [[ ! -e $marker ]]; then
  [[ ! -e $directory || (-d $directory && -z $(ls -A "$directory")) ]] ||
    fail "$directory is there already and was not made by this script" "Name another directory, or remove that one"
  make
elif [[ $(<"$marker") != finished ]]; then
  echo "$directory was left unfinished: making it anew"
  make
elif ! is_right; then
  echo "$directory is not, or no longer, what envs/requirements-alliance.txt asks for: making it anew"
  make
elif [[ $(clone_of_library) != "$clone" ]]; then
  echo "The command qa in $directory runs from now on the library of $clone"
  install_library
fi

loaded=$(tr : '\n' <<<"${LOADEDMODULES:-}" | grep -E '^(gcc|arrow|python)/' | tr '\n' ' ' || true)
cat <<EOF

Ready: $directory

Type in every new session, in this order (modules before the environment):

    module load ${loaded:-gcc $arrow_module $python_module}
    source $directory/bin/activate
    export SBATCH_ACCOUNT=${SBATCH_ACCOUNT:-def-someone}    # your account
    snakemake --profile profiles/slurm
EOF
