# shellcheck shell=bash
# What the scripts share. They run in the checkout's root, with set -euo pipefail, and stay within
# what bash 3.2 (macOS) knows.

# Homebrew keeps its clang tools out of the way.
if [ -d /opt/homebrew/opt/llvm/bin ]; then PATH="$PATH:/opt/homebrew/opt/llvm/bin"; fi

die() {
  echo "error: $*" >&2
  exit 1
}

cores() {
  nproc 2>/dev/null || sysctl -n hw.ncpu
}

# Runs a command without its output, unless it fails: then all of it is shown.
run_quietly() {
  local log status=0
  mkdir -p build
  log="$(mktemp build/log.XXXXXX)"
  "$@" </dev/null >"$log" 2>&1 || status=$?
  if [ $status != 0 ]; then
    cat "$log" >&2
    echo "error: failed with exit code $status: $*" >&2
  fi
  rm -f "$log"
  return $status
}

# configure PRESET [CMAKE ARGUMENTS]. $GANDER_CUDA_KERNELS, when set, takes the place of the
# preset's: .ci/run has no use for the kernels for NVIDIA.
configure() {
  local preset="$1"
  shift
  run_quietly cmake --preset "$preset" \
    ${GANDER_CUDA_KERNELS:+"-DGANDER_CUDA_KERNELS=$GANDER_CUDA_KERNELS"} "$@"
}

# build PRESET TARGET...
build() {
  local preset="$1"
  shift
  run_quietly cmake --build --preset "$preset" -j "$(cores)" --target "$@"
}

# run_tests PRESET [CTEST ARGUMENTS]: prints the failures, and "N passed, N failed" as the last line.
run_tests() {
  local preset="$1" status=0 report counts
  shift
  report="$(build_folder "$preset")/tests.xml"
  rm -f "$report"
  ctest --preset "$preset" -j "$(cores)" --no-tests=error --output-junit "$PWD/$report" "$@" |
    sed -E '/^ +Start +[0-9]+: /d; /^ *[0-9]+\/[0-9]+ Test +#[0-9]+: .* Passed /d' || status=$?
  [ -e "$report" ] || die "the tests did not run"
  counts="$(tr '\n' ' ' <"$report" | sed 's/.*<testsuite //; s/>.*//')"
  print_counts "$(attribute tests "$counts")" "$(attribute failures "$counts")" \
    "$(attribute skipped "$counts")" "$(attribute disabled "$counts")"
  return $status
}

# run_directly PRESET (EXECUTABLE FILTER)...: in processes of many tests each, not one for each test.
# Under sanitizers starting takes longer than most tests. There are more processes than cores, so
# that at the end no core is left with a long one. Prints what fails, and the counts.
run_directly() {
  local folder shards executable index failed=0
  folder="$(build_folder "$1")"
  shards=$((4 * $(cores)))
  shift
  rm -f "$folder"/*_tests.*.log
  local jobs=("$@")
  # shellcheck disable=SC2016  # expanded by the inner shell
  while [ $# -gt 0 ]; do
    for ((index = 0; index < shards; ++index)); do
      printf '%s\0' "$folder/$1" "$2" "$shards" "$index"
    done
    shift 2
  done | xargs -0 -n 4 -P "$(cores)" bash -c 'run_shard "$0" "$@"' || failed=1
  for ((index = 0; index < ${#jobs[@]}; index += 2)); do
    executable="${jobs[index]}"
    cat "$folder/$executable".*.log | awk -v name="$executable" '
      /^\[ +PASSED +\] / { passed += $4 }
      /^\[ +SKIPPED +\] [0-9]+ tests?,/ { skipped += $4 }
      END { print name ": " passed + 0 " passed, " skipped + 0 " skipped"; exit passed == 0 }' ||
      die "$executable ran no tests"
  done
  return $failed
}

# One of run_directly's processes. Its log has every test, so that one that ends the process without
# a word is the last in it.
run_shard() {  # executable, filter, shards, index
  local log="$1.$4.log" status=0
  LSAN_OPTIONS="suppressions='$PWD/tests/leak_suppressions.txt':print_suppressions=0" \
    GTEST_TOTAL_SHARDS="$3" GTEST_SHARD_INDEX="$4" \
    "$1" --gtest_filter="$2" >"$log" 2>&1 </dev/null || status=$?
  [ $status != 0 ] || return 0
  {
    sed -E '/^\[( RUN      |       OK|-+)\]/d' "$log"
    echo "error: exit code $status: $1, process $4 of $3; the end of $log:"
    tail -n 5 "$log"
  } >&2
  return 1
}
export -f run_shard

print_counts() {  # all, failed, skipped, disabled
  echo "$(($1 - $2 - $3 - $4)) passed, $2 failed, $(($3 + $4)) skipped"
}

attribute() {  # name, XML attributes
  sed -E "s/.*[[:space:]]?$1=\"([0-9]+)\".*/\1/" <<< "$2"
}

build_folder() {
  if [ "$1" = release ]; then echo build; else echo "build-$1"; fi
}
