/* A program that uses gander from C: a conversation on the terminal, with the built-in model or
 * another. An empty line takes the last turn back.
 *   cc -std=c11 chat.c $(pkg-config --cflags --libs gander)
 *   ./a.out [MODEL] */

#include <gander/gander.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int print_piece(void* context, const char* text, size_t size) {
  FILE* out = context;
  fwrite(text, 1, size, out);
  fflush(out);
  return 0; /* 1 would cancel */
}

static void check(gander_status status) {
  if (status == GANDER_OK) return;
  fprintf(stderr, "error: %s\n", gander_last_error());
  exit(1);
}

static void append(gander_session* session, const char* text) {
  check(gander_session_append(session, text, strlen(text)));
}

int main(int argc, char** argv) {
  gander_model* model = NULL;
  gander_engine* engine = NULL;
  gander_session* session = NULL;
  gander_snapshot* before = NULL;
  check(gander_model_open(argc > 1 ? argv[1] : NULL, NULL, &model));
  check(gander_engine_create(model, NULL, &engine));
  check(gander_session_create(engine, &session));
  check(gander_session_snapshot(session, &before));
  gander_model_destroy(model); /* the engine has it */

  const char* stops[] = {"\n\nUser:"};
  gander_generate_options options;
  gander_generate_options_init(&options);
  options.max_tokens = 200;
  options.stops = stops;
  options.stop_count = 1;
  options.top_p = 0.5F;
  options.presence_penalty = 0.3F;

  char line[4096];
  while (printf("> "), fflush(stdout), fgets(line, sizeof line, stdin) != NULL) {
    line[strcspn(line, "\n")] = '\0';
    if (line[0] == '\0') {
      check(gander_session_restore(session, before));
      printf("(the last turn is taken back)\n");
      continue;
    }
    gander_snapshot_destroy(before);
    check(gander_session_snapshot(session, &before));
    append(session, gander_session_tokens_read(session) == 0 ? "User: " : "\n\nUser: ");
    append(session, line);
    append(session, "\n\nAssistant:");
    ++options.seed;
    gander_result result;
    check(gander_session_generate(session, &options, print_piece, stdout, &result));
    printf("\n(%u tokens read, %u written, %.0f a second)\n", (unsigned)result.prompt_tokens,
           (unsigned)result.tokens, result.tokens / (result.seconds + 1e-9));
  }
  printf("\n");
  gander_snapshot_destroy(before);
  gander_session_destroy(session);
  gander_engine_destroy(engine);
  return 0;
}
