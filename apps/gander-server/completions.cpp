// Service's endpoints that generate: from a body to requests of the engine, and their events back.
#include <spdlog/spdlog.h>

#include <boost/asio/error.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/system/system_error.hpp>
#include <random>
#include <utility>

#include "apps/gander-server/api/chat_template.h"
#include "apps/gander-server/service.h"

namespace gander::server {
namespace {

constexpr std::chrono::seconds kQuiet{15};  // then a comment keeps proxies from giving up

std::int64_t now_in_seconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

// Others may have taken the room since the request began; the reply is worth more than its state.
void keep(NamedStates& states, const std::string& name, std::shared_ptr<const SavedSequence> end) {
  try {
    states.put(name, std::move(end));
  } catch (const Error& error) {
    spdlog::warn("a state is not kept: {}", error.what());
  }
}

}  // namespace

// Fills what all of a request's generations have in common.
void Service::begin(Generation& generation, const GenerationFields& fields,
                    const std::string& client) const {
  if (!fields.model.empty() && fields.model != options_.model_name) {
    throw ApiError(404,
                   fmt::format("there is no model \"{}\", only \"{}\"", fields.model.substr(0, 100),
                               options_.model_name),
                   "model", "model_not_found");
  }
  generation.fields = fields;
  if (!fields.state.empty()) generation.state = state_name(client, fields.state);
  generation.head.id = make_id(generation.head.endpoint == Endpoint::Chat ? "chatcmpl-" : "cmpl-");
  generation.head.model = options_.model_name;
  generation.head.created = now_in_seconds();
}

Request Service::request_of(const Generation& generation) const {
  const GenerationFields& fields = generation.fields;
  Request request;
  if (!generation.state.empty()) {
    request.start = engine_.states().find(generation.state);
    if (request.start == nullptr) engine_.states().require_room(generation.state);
    request.keep_end = true;
  }
  request.sampling = fields.sampling;
  // 32 bits, so that every reader of JSON keeps the number exactly.
  request.sampling.seed = fields.seed.value_or(std::random_device()());
  request.choices = fields.choices;
  request.max_tokens = fields.max_tokens;
  request.stops = fields.stops;
  request.top_logprobs = fields.top_logprobs;
  request.deadline = std::chrono::steady_clock::now() + options_.longest;
  return request;
}

void Service::submit(Generation& generation, std::vector<Request> requests) {
  if (is_draining_) throw ApiError(503, "the server is shutting down");
  generation.open = generation.choices.size();
  std::uint32_t first = 0;
  for (Request& request : requests) {
    const std::uint32_t count = request.choices;
    generation.tickets.push_back(engine_.submit(
        std::move(request), [mailbox = generation.mailbox, first](const Event& event) {
          OwnedEvent own = owned(event);
          own.choice += first;
          return mailbox->put(std::move(own));
        }));
    first += count;
  }
}

void Service::start_chat(Generation& generation, const std::string& body,
                         const std::string& client) {
  const ChatRequest chat = parse_chat_request(body, options_.limits);
  begin(generation, chat.common, client);
  Request request = request_of(generation);
  ChatPrompt prompt = render_chat(chat, request.start != nullptr);
  request.prompt = std::move(prompt.text);
  for (std::string& stop : chat_stops()) request.stops.push_back(std::move(stop));
  if (chat.tool_choice == ToolChoice::Required) {
    request.mask = mask_of(call_schema(chat.tools), "tools");
  } else if (chat.wants_json) {
    request.mask = mask_of(chat.json_schema.value_or(Json{{"type", "object"}}), "response_format");
  }
  for (std::uint32_t i = 0; i < chat.common.choices; ++i) {
    Choice& choice = generation.choices.emplace_back();
    const bool may_call = chat.tool_choice != ToolChoice::None;
    choice.reply = ReplyStream(may_call ? chat.tools : std::vector<Tool>(), prompt.ends_in_words);
    choice.reply.push(prompt.reply);
  }
  std::vector<Request> requests;
  requests.push_back(std::move(request));
  submit(generation, std::move(requests));
}

void Service::start_completion(Generation& generation, const std::string& body,
                               const std::string& client) {
  CompletionRequest completion = parse_completion_request(body, options_.limits);
  begin(generation, completion.common, client);
  std::vector<Request> requests;
  for (CompletionRequest::Prompt& prompt : completion.prompts) {
    Request& request = requests.emplace_back(request_of(generation));
    request.prompt = std::move(prompt.text);
    request.tokens = std::move(prompt.tokens);
  }
  generation.choices.resize(completion.prompts.size() * completion.common.choices);
  submit(generation, std::move(requests));
}

std::unique_ptr<TokenMask> Service::mask_of(const Json& schema, const char* field) {
  try {
    return grammars_.json_schema(json_text(schema))->start();
  } catch (const Error& error) {
    refuse_field(field, "'{}': {}", field, error.what());
  }
}

asio::awaitable<void> Service::generate(Exchange& exchange, Endpoint endpoint,
                                        const std::string& client) {
  Generation generation;
  generation.head.endpoint = endpoint;
  generation.mailbox =
      std::make_shared<Mailbox>(co_await asio::this_coro::executor, options_.outbox_bytes);
  co_await on_worker([&] {
    const std::string& body = exchange.request().body;
    if (endpoint == Endpoint::Chat) {
      start_chat(generation, body, client);
    } else {
      start_completion(generation, body, client);
    }
  });
  // What is being written would else wait for a client that may never read it.
  generation.mailbox->on_full = [&exchange] { exchange.abort(); };
  if (!co_await exchange.while_connected(answer(exchange, generation))) {
    if (generation.mailbox->is_full()) {
      ++metrics_.too_slow;
      exchange.note = "the client reads too slowly";
    }
    throw boost::system::system_error(asio::error::connection_reset);
  }
  exchange.note = fmt::format("prompt={} cached={} generated={}", generation.usage.prompt_tokens,
                              generation.usage.cached_tokens, generation.usage.generated_tokens);
}

// Event by event, or all at the end.
asio::awaitable<void> Service::answer(Exchange& exchange, Generation& generation) {
  const bool is_stream = generation.fields.stream;
  const Tokenizer& tokenizer = require_tokenizer(engine_.model());
  if (is_stream) co_await exchange.begin_events();
  while (generation.open > 0) {
    std::vector<OwnedEvent> events = co_await generation.mailbox->take(kQuiet);
    for (const OwnedEvent& event : events) {
      if (!event.finish) continue;
      metrics_.add(event.finish->usage);
      if (event.finish->end) keep(engine_.states(), generation.state, event.finish->end);
    }
    if (!is_stream) {
      for (OwnedEvent& event : events) take(generation, std::move(event));
    } else if (events.empty()) {
      co_await exchange.write_events(": waiting\n\n");
    } else {
      co_await exchange.write_events(take_as_chunks(generation, std::move(events), tokenizer));
    }
  }
  if (is_stream) {
    co_await exchange.write_events(last_chunks(generation));
    co_await exchange.end_events();
    co_return;
  }
  HttpResponse response;
  response.body =
      response_json(generation.head, choices_json(generation, tokenizer), generation.usage);
  co_await exchange.respond(std::move(response));
}

}  // namespace gander::server
