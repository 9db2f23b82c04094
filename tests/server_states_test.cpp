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
#include "tests/support/fake_backend.h"
#include "tests/support/slot_backend.h"
#include "tests/support/vocabularies.h"

namespace gander::server {
namespace {

constexpr std::uint32_t kVocabulary = 257;

Model bytes_model() {
  return fake_model(std::make_shared<const Tokenizer>(byte_tokens()), kVocabulary);
}

// Says "aaa" and so on; a space after a comma.
void say_a(std::uint64_t, std::size_t, TokenId last, std::span<float> logits) {
  std::ranges::fill(logits, 0.0F);
  logits[last == ',' + 1 ? ' ' + 1 : 'a' + 1] = 9.0F;
}

class ServerStates : public ::testing::Test {
 protected:
  void start(std::uint64_t named_state_bytes) {
    EngineOptions options;
    options.named_state_bytes = named_state_bytes;
    engine_ = std::make_unique<Engine>(
        bytes_model(), std::make_unique<SlotBackend>(kVocabulary, 1, say_a), options);
    HttpOptions http;
    http.port = 0;
    ServiceOptions service;
    service.model_name = "bytes";
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

  std::uint64_t state_bytes() const { return State::bytes(bytes_model().config()); }

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
