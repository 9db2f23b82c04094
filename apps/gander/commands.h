#pragma once

#include <CLI/CLI.hpp>

#include "apps/gander/options.h"

namespace gander {

/// Each adds one command to the program; parsing it sets `action`.
void add_run_command(CLI::App& program, Action& action);
void add_chat_command(CLI::App& program, Action& action);
void add_eval_command(CLI::App& program, Action& action);
void add_bench_command(CLI::App& program, Action& action);
void add_logits_command(CLI::App& program, Action& action);
void add_tokenize_command(CLI::App& program, Action& action);
void add_inspect_command(CLI::App& program, Action& action);
void add_program_command(CLI::App& program, Action& action);
void add_selftest_command(CLI::App& program, Action& action);
void add_tune_command(CLI::App& program, Action& action);
void add_quantize_command(CLI::App& program, Action& action);
void add_completion_command(CLI::App& program, Action& action);

/// The commands of `gander bench`.
void add_bench_batch_command(CLI::App& bench, Action& action);
void add_bench_sync_command(CLI::App& bench, Action& action);
void add_bench_roofline_command(CLI::App& bench, Action& action);
void add_bench_serve_command(CLI::App& bench, Action& action);

}  // namespace gander
