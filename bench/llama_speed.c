/* Measures llama.cpp on request, with the same lines as bench/speed.cpp; bench/compare-llama
 * builds it against the headers of the release it installed.
 * usage: llama_speed MODEL THREADS TOKENS BACKENDS [plain]
 * BACKENDS is the folder of ggml's libraries, of which it takes the one that suits the processor
 * best; `plain` leaves the weights as they lie in the file instead of in the order that llama.cpp's
 * kernels for this processor prefer. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "ggml-backend.h"
#include "llama.h"

enum { MOST_TOKENS = 1 << 16, BATCH = 512, LONGEST = 10 /* seconds */ };

static llama_token tokens[MOST_TOKENS];
static int token_count = 0;

static void die(const char* what, const char* of) {
  fprintf(stderr, "llama_speed: %s %s\n", what, of);
  exit(1);
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static double processor_seconds(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

/* Warnings and errors only. */
static void log_problems(enum ggml_log_level level, const char* text, void* data) {
  (void)data;
  if (level == GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
}

static void read_tokens(const char* path, int vocab_size) {
  FILE* file = fopen(path, "r");
  if (file == NULL) die("cannot open", path);
  int token = 0;
  while (token_count < MOST_TOKENS && fscanf(file, "%d", &token) == 1) {
    tokens[token_count++] = token % vocab_size;
  }
  fclose(file);
}

/* Logits are computed after the last token of a batch only. */
static void feed(struct llama_context* context, int first, int count) {
  for (int at = first; at < first + count; at += BATCH) {
    const int rest = first + count - at;
    struct llama_batch batch = llama_batch_get_one(tokens + at, rest < BATCH ? rest : BATCH);
    if (llama_decode(context, batch) != 0) die("llama_decode failed", "");
  }
  if (llama_get_logits_ith(context, -1) == NULL) die("there are no logits", "");
}

static void answer(struct llama_context* context, const char* line) {
  char what[16];
  int count = 0, skip = 0;
  if (sscanf(line, "%15s %d %d", what, &count, &skip) < 2 || count < 1 || skip < 0 ||
      count + skip > token_count) {
    die("cannot measure", line);
  }
  llama_memory_clear(llama_get_memory(context), true);
  if (strcmp(what, "logits") == 0) {
    feed(context, 0, count);
    const float* logits = llama_get_logits_ith(context, -1);
    for (int i = 0; i < 64; ++i) printf("%s%.9g", i == 0 ? "{\"logits\": [" : ", ", logits[i]);
    printf("]}\n");
    return;
  }
  const bool one_by_one = strcmp(what, "decode") == 0;
  if (!one_by_one && strcmp(what, "prefill") != 0) die("unknown measurement", line);
  if (skip > 0) feed(context, 0, skip);
  const double processor = processor_seconds();
  const double begin = now();
  int done = count;
  if (one_by_one) {
    for (done = 0; done < count && now() - begin < LONGEST; ++done) feed(context, skip + done, 1);
  } else {
    feed(context, skip, count);
  }
  const double seconds = now() - begin;
  printf("{\"tokens_per_second\": %.6g, \"seconds\": %.6g, \"processor_seconds\": %.6g}\n",
         done / seconds, seconds, processor_seconds() - processor);
}

int main(int argc, char** argv) {
  if (argc != 5 && !(argc == 6 && strcmp(argv[5], "plain") == 0)) {
    die("usage:", "llama_speed MODEL THREADS TOKENS BACKENDS [plain]");
  }
  const int threads = atoi(argv[2]);
  if (threads < 1) die("no number of threads:", argv[2]);
  llama_log_set(log_problems, NULL);
  ggml_backend_load_all_from_path(argv[4]);
  llama_backend_init();

  struct llama_model_params model_params = llama_model_default_params();
  model_params.use_extra_bufts = argc == 5;
  struct llama_model* model = llama_model_load_from_file(argv[1], model_params);
  if (model == NULL) die("cannot load", argv[1]);
  read_tokens(argv[3], llama_vocab_n_tokens(llama_model_get_vocab(model)));

  struct llama_context_params params = llama_context_default_params();
  params.n_ctx = 4096; /* a recurrent model's memory does not depend on it */
  params.n_batch = BATCH;
  params.n_ubatch = BATCH;
  params.n_threads = threads;
  params.n_threads_batch = threads;
  struct llama_context* context = llama_init_from_model(model, params);
  if (context == NULL) die("cannot make a context for", argv[1]);

  printf("{\"engine\": \"llama.cpp\", \"backend\": \"%s\"}\n", llama_print_system_info());
  fflush(stdout);
  char line[256];
  while (fgets(line, sizeof line, stdin) != NULL) {
    answer(context, line);
    fflush(stdout);
  }
  llama_free(context);
  llama_model_free(model);
  return 0;
}
