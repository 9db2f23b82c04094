#include <gtest/gtest.h>

#include <algorithm>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "apps/gander-server/server.h"

namespace gander::server {
namespace {

Model letters_model() {
  std::vector<std::string> tokens(1);
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
  auto weights = std::make_shared<Weights>();
  weights->config.vocab_size = static_cast<std::uint32_t>(tokens.size());
  weights->config.width = weights->config.head_size = 64;
  weights->config.heads = weights->config.layers = 1;
  Model model;
  model.weights = std::move(weights);
  model.tokenizer = std::make_shared<const Tokenizer>(tokens);
  return model;
}

// Says "aaa" and so on; a space after a comma.
class LettersBackend final : public Backend {
 public:
  explicit LettersBackend(const Config& config) : config_(config) {}
  const Config& config() const override { return config_; }
  std::string description() const override { return "letters"; }
  std::uint32_t slots() const override { return 1; }
  void forward(std::span<const TokenId> tokens, Logits which, std::span<float> logits) override {
    const SequenceStep one = {0, tokens, which};
    step({&one, 1}, logits, {});
  }
  void step(std::span<const SequenceStep> steps, std::span<float> logits,
            std::span<TokenId> best) override {
    step_by_sequence(steps, config_.vocab_size, logits, best,
                     [&](const SequenceStep& step, std::span<float> out) {
                       if (step.which == Logits::None) return;
                       std::ranges::fill(out, 0.0F);
                       const TokenId said = step.tokens.back() == ',' + 1 ? ' ' + 1 : 'a' + 1;
                       for (std::size_t i = said; i < out.size(); i += config_.vocab_size) {
                         out[i] = 9.0F;
                       }
                     });
  }
  void read_state(State& state, std::uint32_t) const override { state.clear(); }
  void write_state(const State&, std::uint32_t) override {}
  void reset(std::uint32_t) override {}

 private:
  Config config_;
};

class ServerStates : public ::testing::Test {
 protected:
  void start(std::uint64_t named_state_bytes) {
    const Model model = letters_model();
    EngineOptions options;
    options.named_state_bytes = named_state_bytes;
    engine_ =
        std::make_unique<Engine>(model, std::make_unique<LettersBackend>(model.config()), options);
    HttpOptions http;
    http.port = 0;
    ServiceOptions service;
    service.model_name = "letters";
    server_ = std::make_unique<Server>(*engine_, nullptr, http, service);
    thread_ = std::thread([this] { server_->run(); });
  }
  ~ServerStates() override {
    server_->drain(std::chrono::seconds(0));
    thread_.join();
  }

  /// The whole response.
  std::string ask(const std::string& state, const std::string& more = "",
                  const std::string& turn = "") {
    const std::string body = R"({"messages": [{"role": "user", "content": "A"})" + turn +
                             R"(], "temperature": 0, "max_tokens": 3, "state": ")" + state + "\"" +
                             more + "}";
    boost::asio::ip::tcp::socket socket(client_);
    socket.connect({boost::asio::ip::make_address("127.0.0.1"), server_->port()});
    boost::asio::write(
        socket, boost::asio::buffer("POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                                    "Connection: close\r\nContent-Length: " +
                                    std::to_string(body.size()) + "\r\n\r\n" + body));
    std::string text;
    boost::system::error_code error;
    boost::asio::read(socket, boost::asio::dynamic_buffer(text), error);
    return text;
  }

  std::uint64_t state_bytes() const { return State::bytes(letters_model().config()); }

  boost::asio::io_context client_{1};
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Server> server_;
  std::thread thread_;
};

bool has_part(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

TEST_F(ServerStates, ANewOneThatFindsNoRoomIsRefusedBeforehand) {
  start(state_bytes() + 1000);
  EXPECT_TRUE(has_part(ask("a"), "aaa"));
  const std::uint64_t tokens = engine_->statistics().generated_tokens;
  const std::string refusal = ask("b");
  EXPECT_TRUE(refusal.starts_with("HTTP/1.1 507 ")) << refusal;
  EXPECT_TRUE(has_part(refusal, "states_full")) << refusal;
  EXPECT_TRUE(has_part(refusal, "delete some")) << refusal;
  EXPECT_EQ(engine_->statistics().generated_tokens, tokens);
  EXPECT_TRUE(has_part(ask("a"), "aaa")) << "what is there goes on";
  EXPECT_EQ(engine_->states().list().size(), 1U);
}

TEST_F(ServerStates, AReplyComesEvenIfItsEndCannotBeKept) {
  start(state_bytes() + std::string("/a").size() + 128);  // none for its tokens
  const std::string reply = ask("a");
  EXPECT_TRUE(reply.starts_with("HTTP/1.1 200 ")) << reply;
  EXPECT_TRUE(has_part(reply, "aaa")) << reply;
  const std::string events = ask("a", R"(, "stream": true)");
  EXPECT_TRUE(has_part(events, "[DONE]")) << events;
  EXPECT_FALSE(has_part(events, "error")) << events;
  EXPECT_TRUE(engine_->states().list().empty());
}

TEST_F(ServerStates, AContinuedTextKeepsItsSpace) {
  start(std::uint64_t{1} << 20);
  const auto go_on = [&](const std::string& words) {
    return ask("a", "", R"(, {"role": "assistant", "content": ")" + words + "\"}");
  };
  EXPECT_TRUE(has_part(go_on("b,"), R"("content":" aa")"));
  EXPECT_TRUE(has_part(go_on("b, "), R"("content":"aa")"));
}

}  // namespace
}  // namespace gander::server
