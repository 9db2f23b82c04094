/* gander runs RWKV-7 language models: the interface for C, and for languages that call C.
 *
 *   gander_model* model;
 *   gander_engine* engine;
 *   gander_session* session;
 *   if (gander_model_open(NULL, NULL, &model) != GANDER_OK ||
 *       gander_engine_create(model, NULL, &engine) != GANDER_OK ||
 *       gander_session_create(engine, &session) != GANDER_OK) {
 *     fprintf(stderr, "%s\n", gander_last_error());
 *   }
 *   gander_session_append(session, "Once upon a time", 16);
 *   gander_session_generate(session, NULL, on_text, NULL, NULL);
 *
 * A model is a checkpoint. An engine runs it for any number of sessions at once: those that
 * generate share its slots, others wait for one. A session is one text; the memory of it that the
 * model has, its state, has a fixed size however long the text grows.
 *
 * Threads. Functions of different objects can be called at the same time, and those of models,
 * engines and snapshots from any thread. A session is for one thread at a time; gander_session_
 * cancel() alone may be called while another function of the session runs. Objects can be destroyed
 * in any order: an engine lives until its last session is gone, a model until its last engine is.
 *
 * Errors. Functions that can fail return a status; gander_last_error() then is one line that says
 * what is wrong, where, and what to do. A failed call changes nothing. */
#ifndef GANDER_GANDER_H
#define GANDER_GANDER_H

#include <stddef.h>
#include <stdint.h>

#ifndef GANDER_API
#ifdef _WIN32
#define GANDER_API
#else
#define GANDER_API __attribute__((visibility("default")))
#endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef struct gander_model gander_model;
typedef struct gander_engine gander_engine;
typedef struct gander_session gander_session;
typedef struct gander_snapshot gander_snapshot;

typedef enum gander_status {
  GANDER_OK = 0,
  GANDER_ERROR = 1,
  GANDER_REFUSED = 2 /* the engine's queue is full: try again later */
} gander_status;

/* The version of the library, for example "0.1.0". */
GANDER_API const char* gander_version(void);
/* Of the last call on this thread that failed; "" before the first. Valid until the next that
 * fails. */
GANDER_API const char* gander_last_error(void);

/* Opens a checkpoint: GGUF, safetensors (a file, or a folder of shards) or PyTorch .pth. `path`
 * NULL is the small model that comes with gander. `vocabulary` NULL takes the one inside the file,
 * or rwkv_vocab_v20230424.txt or vocab.txt beside it. */
GANDER_API gander_status gander_model_open(const char* path, const char* vocabulary,
                                           gander_model** model);
/* NULL is allowed here, as for the other objects. */
GANDER_API void gander_model_destroy(gander_model* model);
GANDER_API uint32_t gander_model_vocabulary_size(const gander_model* model);

/* The tokens of a text, without token 0 before it. `*count` becomes their number, of which at most
 * `capacity` are written. */
GANDER_API gander_status gander_tokenize(const gander_model* model, const char* text, size_t size,
                                         uint32_t* tokens, size_t capacity, size_t* count);
/* The bytes of tokens, in the same way. They need not be valid UTF-8 and have no NUL at the end. */
GANDER_API gander_status gander_detokenize(const gander_model* model, const uint32_t* tokens,
                                           size_t count, char* text, size_t capacity, size_t* size);

typedef struct gander_engine_options {
  size_t struct_size;          /* set by gander_engine_options_init() */
  const char* backend;         /* "auto", or what `gander run --help` lists */
  unsigned threads;            /* of the CPU; 0: one for each core */
  uint32_t slots;              /* sessions that generate at the same time, if memory allows */
  uint32_t max_waiting;        /* others that may wait for a slot */
  uint32_t prompt_chunk;       /* tokens of prompts that the others' next tokens wait for */
  uint64_t cache_memory_bytes; /* of states kept of texts, so that a text that begins like one
                                * before need not be read again; 0: none */
  const char* cache_folder;    /* keeps them on disk too; NULL: not */
  uint64_t cache_disk_bytes;
} gander_engine_options;

/* Sets the defaults. To be called first: it tells the library what the caller knows. */
GANDER_API void gander_engine_options_init(gander_engine_options* options);
/* `options` NULL: the defaults. Fails also when the machine has too little memory. */
GANDER_API gander_status gander_engine_create(const gander_model* model,
                                              const gander_engine_options* options,
                                              gander_engine** engine);
GANDER_API void gander_engine_destroy(gander_engine* engine);

/* A new text. */
GANDER_API gander_status gander_session_create(gander_engine* engine, gander_session** session);
GANDER_API void gander_session_destroy(gander_session* session);
/* Another session that goes on from where this one is. Costs next to nothing: they share what they
 * have read. */
GANDER_API gander_status gander_session_fork(const gander_session* session, gander_session** fork);

/* Adds text to what is read next. Nothing is read before gander_session_generate(). */
GANDER_API gander_status gander_session_append(gander_session* session, const char* text,
                                               size_t size);

typedef struct gander_logit_bias {
  uint32_t token;
  float bias; /* added to the logit; minus infinity bans the token */
} gander_logit_bias;

/* The steps of sampling are taken in this order: logit bias, penalties, temperature, top-k, top-p,
 * min-p, typical, draw; each is off at its default but the draw itself. */
typedef struct gander_generate_options {
  size_t struct_size;       /* set by gander_generate_options_init() */
  uint32_t max_tokens;      /* 256; 0 reads what was appended and generates nothing */
  const char* const* stops; /* the text ends before the first of these strings */
  size_t stop_count;
  int ignore_end;         /* goes on after the token that ends a text */
  int priority;           /* sessions with a higher one come first */
  double timeout_seconds; /* then it ends where it is, waiting included; 0: never */

  float temperature;        /* 0: always the most probable token */
  uint32_t top_k;           /* keeps the k most probable; 0: all */
  float top_p;              /* keeps the most probable that together reach this share */
  float min_p;              /* keeps what has this share of the largest probability */
  float typical_p;          /* keeps the most typical that together reach this share */
  float repetition_penalty; /* divides positive logits of tokens that were generated */
  float presence_penalty;   /* subtracted from their logits */
  float frequency_penalty;  /* subtracted for each occurrence */
  float penalty_decay;      /* of the counts of occurrences, per token */
  const gander_logit_bias* logit_bias;
  size_t logit_bias_count;
  uint64_t seed; /* same seed, same text */
} gander_generate_options;

GANDER_API void gander_generate_options_init(gander_generate_options* options);

typedef enum gander_ending {
  GANDER_END_OF_TEXT = 0,
  GANDER_STOP_STRING = 1, /* leaves no trace in the session */
  GANDER_LENGTH = 2,
  GANDER_CANCELLED = 3,
  GANDER_TIMEOUT = 4
} gander_ending;

typedef struct gander_result {
  gander_ending ending;
  uint32_t prompt_tokens; /* of what was appended, token 0 of a new text included */
  uint32_t cached_tokens; /* of these, those that a kept state had read */
  uint32_t tokens;        /* generated */
  double waiting_seconds; /* for a slot */
  double prompt_seconds;  /* to the first token */
  double seconds;         /* from there */
} gander_result;

/* Receives each piece of the text as it becomes certain: valid UTF-8 of `size` bytes, and a NUL
 * after it. A value other than 0 cancels; what was generated by then still comes, so that text and
 * session agree. Called on the thread of gander_session_generate(), and free to take its time. */
typedef int (*gander_on_text)(void* context, const char* text, size_t size);

/* Reads what was appended, after token 0 in a new text, and goes on with it. Waits until it is
 * over. `options`, `on_text` and `result` may be NULL. Being cancelled or late is no failure: the
 * session goes on from the text that came. */
GANDER_API gander_status gander_session_generate(gander_session* session,
                                                 const gander_generate_options* options,
                                                 gander_on_text on_text, void* context,
                                                 gander_result* result);
/* Ends the gander_session_generate() that runs in another thread, within a token. If none runs,
 * nothing happens. */
GANDER_API void gander_session_cancel(gander_session* session);

/* Keeps where a session is, to go back to it any number of times, in any session of an engine with
 * the same model. */
GANDER_API gander_status gander_session_snapshot(const gander_session* session,
                                                 gander_snapshot** snapshot);
GANDER_API gander_status gander_session_restore(gander_session* session,
                                                const gander_snapshot* snapshot);
GANDER_API void gander_snapshot_destroy(gander_snapshot* snapshot);
/* The same in a file, which is written whole or not at all and is bound to the model. A file of
 * `gander run --save-state`, and state-tuned .pth and .st files, can be loaded too. */
GANDER_API gander_status gander_session_save(const gander_session* session, const char* path);
GANDER_API gander_status gander_session_load(gander_session* session, const char* path);
/* Begins a new text. */
GANDER_API gander_status gander_session_reset(gander_session* session);
/* How many tokens the model has read of it. */
GANDER_API size_t gander_session_tokens_read(const gander_session* session);

#ifdef __cplusplus
}
#endif

#endif /* GANDER_GANDER_H */
