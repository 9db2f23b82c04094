#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <future>
#include <string>
#include <thread>

#include "apps/gander-server/api/api_keys.h"
#include "apps/gander-server/http/http_server.h"
#include "apps/gander-server/mailbox.h"
#include "base/error.h"
#include "tests/support/temporary_folder.h"

namespace gander::server {
namespace {

using asio::ip::tcp;

// Answers with what it was asked; a path of /events streams three of them, /wait never answers.
asio::awaitable<void> echo(Exchange& exchange, bool& was_cancelled) {
  const HttpRequest& request = exchange.request();
  if (request.path == "/events") {
    co_await exchange.begin_events();
    for (const char* event : {"data: 1\n\n", "data: 2\n\n", "data: 3\n\n"}) {
      co_await exchange.write_events(event);
    }
    co_return co_await exchange.end_events();
  }
  if (request.path == "/wait") {
    const auto wait = []() -> asio::awaitable<void> {
      asio::steady_timer timer(co_await asio::this_coro::executor, std::chrono::hours(1));
      co_await timer.async_wait(asio::use_awaitable);
    };
    was_cancelled = !co_await exchange.while_connected(wait());
    co_return;
  }
  HttpResponse response;
  response.body = fmt::format("{} {} {}", request.method, request.path, request.body);
  co_await exchange.respond(std::move(response));
}

class ServerHttp : public ::testing::Test {
 protected:
  void start(HttpOptions options) {
    options.port = 0;
    server_ = std::make_unique<HttpServer>(
        io_, options, [this](Exchange& exchange) { return echo(exchange, was_cancelled_); },
        [](const HttpRequest& head) { return head.authorization != "nobody"; });
    thread_ = std::thread([this] { io_.run(); });
  }
  ~ServerHttp() override {
    asio::post(io_, [this] {
      server_->drain();
      server_->cut();
    });
    thread_.join();
  }

  tcp::socket connect() {
    tcp::socket socket(client_);
    socket.connect({asio::ip::make_address("127.0.0.1"), server_->port()});
    return socket;
  }
  static void send(tcp::socket& socket, const std::string& text) {
    asio::write(socket, asio::buffer(text));
  }
  /// Until the server closes the connection.
  static std::string receive(tcp::socket& socket) {
    std::string text;
    boost::system::error_code error;
    asio::read(socket, asio::dynamic_buffer(text), error);
    return text;
  }
  std::string ask(const std::string& text) {
    tcp::socket socket = connect();
    send(socket, text);
    return receive(socket);
  }

  asio::io_context io_{1}, client_{1};
  std::unique_ptr<HttpServer> server_;
  std::thread thread_;
  bool was_cancelled_ = false;
};

bool contains(const std::string& text, std::string_view what) {
  return text.find(what) != std::string::npos;
}

TEST_F(ServerHttp, AnswersOneRequestAfterTheOther) {
  start({});
  const std::string answer =
      ask("POST /a%20b?c=d HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"
          "GET /second HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(contains(answer, "POST /a b hi")) << answer;
  EXPECT_TRUE(contains(answer, "GET /second ")) << answer;
  const std::string old = ask("GET /old HTTP/1.0\r\n\r\n");
  EXPECT_TRUE(contains(old, "GET /old")) << old;
  const std::string head = ask("HEAD /h HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(contains(head, "Content-Length: 8") && head.ends_with("\r\n\r\n")) << head;
}

TEST_F(ServerHttp, StreamsEventsInChunks) {
  start({});
  const std::string answer = ask("GET /events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(contains(answer, "Content-Type: text/event-stream")) << answer;
  EXPECT_TRUE(contains(answer, "\r\n\r\n9\r\ndata: 1\n\n\r\n9\r\ndata: 2\n\n\r\n9\r\n")) << answer;
  EXPECT_TRUE(answer.ends_with("\r\n0\r\n\r\n")) << answer;
  const std::string old = ask("GET /events HTTP/1.0\r\n\r\n");
  EXPECT_TRUE(old.ends_with("\r\n\r\ndata: 1\n\ndata: 2\n\ndata: 3\n\n")) << old;
}

TEST_F(ServerHttp, RefusesWhatIsTooLargeOrNoHttp) {
  start({.header_bytes = 1024, .body_bytes = 1000});
  EXPECT_TRUE(contains(ask("POST / HTTP/1.1\r\nContent-Length: 1001\r\n\r\n"), " 413 "));
  EXPECT_TRUE(contains(ask("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n" +
                           std::string(1024, 'x') + "\r\n0\r\n\r\n"),
                       " 413 "));
  EXPECT_TRUE(
      contains(ask("GET / HTTP/1.1\r\nX: " + std::string(2000, 'x') + "\r\n\r\n"), " 431 "));
  EXPECT_TRUE(contains(ask("nonsense\r\n\r\n"), " 400 "));
  EXPECT_TRUE(contains(ask("GET /%zz HTTP/1.1\r\n\r\n"), " 400 "));
  EXPECT_TRUE(contains(ask("POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"), " 400 "));
}

TEST_F(ServerHttp, SaysToGoOn) {
  start({});
  tcp::socket socket = connect();
  send(socket,
       "POST /x HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n"
       "Connection: close\r\n\r\n");
  std::string go_on(25, '\0');
  asio::read(socket, asio::buffer(go_on));
  EXPECT_EQ(go_on, "HTTP/1.1 100 Continue\r\n\r\n");
  send(socket, "hi");
  EXPECT_TRUE(contains(receive(socket), "POST /x hi"));
}

TEST_F(ServerHttp, ClosesWhatIsTooSlow) {
  start({.read_header = std::chrono::seconds(1), .read_body = std::chrono::seconds(1)});
  tcp::socket header = connect();
  tcp::socket body = connect();
  send(header, "GET / HTT");
  send(body, "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhi");
  const auto before = std::chrono::steady_clock::now();
  EXPECT_EQ(receive(header), "");
  EXPECT_EQ(receive(body), "");
  EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::seconds(3));
}

TEST_F(ServerHttp, ReadsNothingOfWhomItDoesNotAdmit) {
  start({});
  const std::string stranger =
      ask("POST /x HTTP/1.1\r\nAuthorization: nobody\r\nExpect: 100-continue\r\n"
          "Content-Length: 1000000\r\n\r\n");
  EXPECT_TRUE(contains(stranger, "HTTP/1.1 200")) << stranger;  // what the handler answers
  EXPECT_TRUE(contains(stranger, "Connection: close")) << stranger;
  EXPECT_FALSE(contains(stranger, "100 Continue")) << stranger;
  EXPECT_TRUE(contains(ask("POST /x HTTP/1.1\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi"),
                       "POST /x hi"));
}

TEST_F(ServerHttp, AReaderThatMakesProgressIsWaitedFor) {
  start({.write = std::chrono::seconds(1)});
  const std::size_t size = std::size_t{15} << 20;
  const auto read = [&](std::chrono::milliseconds pause, std::chrono::milliseconds first) {
    tcp::socket socket(client_, tcp::v4());
    socket.set_option(asio::socket_base::receive_buffer_size(64 << 10));
    socket.connect({asio::ip::make_address("127.0.0.1"), server_->port()});
    send(socket, fmt::format("POST / HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{}",
                             size, std::string(size, 'x')));
    std::this_thread::sleep_for(first);
    std::string part(512 << 10, '\0');
    std::size_t all = 0;
    boost::system::error_code error;
    while (!error) {
      all += asio::read(socket, asio::buffer(part), error);
      std::this_thread::sleep_for(pause);
    }
    return all;
  };
  EXPECT_GT(read(std::chrono::milliseconds(80), {}), size);
  EXPECT_LT(read({}, std::chrono::milliseconds(2500)), size);
}

TEST_F(ServerHttp, RefusesOneConnectionTooMany) {
  start({.connections = 1});
  tcp::socket first = connect();
  send(first, "GET /1 HTTP/1.1\r\nHost: x\r\n\r\n");
  std::string begun(12, '\0');
  asio::read(first, asio::buffer(begun));
  EXPECT_EQ(begun, "HTTP/1.1 200");
  EXPECT_TRUE(contains(ask(""), " 503 "));
  first.close();
  std::string answer;
  for (int i = 0; i < 100 && !contains(answer, " 200 "); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    answer = ask("GET /2 HTTP/1.1\r\nConnection: close\r\n\r\n");
  }
  EXPECT_TRUE(contains(answer, " 200 "));
}

TEST_F(ServerHttp, CancelsWorkForAClientThatIsGone) {
  start({});
  tcp::socket socket = connect();
  send(socket, "GET /wait HTTP/1.1\r\nHost: x\r\n\r\nGET /next HTTP/1.1\r\n");  // read ahead
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  socket.close();
  const auto is_over = [&] {
    std::promise<bool> answer;
    asio::post(io_, [&] { answer.set_value(was_cancelled_ && server_->connections() == 0); });
    return answer.get_future().get();
  };
  bool is_cancelled = false;
  for (int i = 0; i < 100 && !is_cancelled; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    is_cancelled = is_over();
  }
  EXPECT_TRUE(is_cancelled);
}

TEST_F(ServerHttp, DrainsIdleConnectionsAtOnce) {
  start({});
  tcp::socket idle = connect();
  send(idle, "GET /1 HTTP/1.1\r\nHost: x\r\n\r\n");
  std::string begun(12, '\0');
  asio::read(idle, asio::buffer(begun));
  asio::post(io_, [this] { server_->drain(); });
  receive(idle);
  EXPECT_THROW(connect(), boost::system::system_error);
}

TEST(ServerMessage, TellsPathsOriginsAndHosts) {
  std::string path;
  EXPECT_TRUE(decode_path("/a%2Fb?x", path));
  EXPECT_EQ(path, "/a/b");
  for (const char* target : {"", "a", "*", "/%", "/%0", "/%0g", "/%00", "http://x/"}) {
    EXPECT_FALSE(decode_path(target, path)) << target;
  }
  EXPECT_TRUE(origin_is_allowed("", "127.0.0.1:8080", ""));
  EXPECT_TRUE(origin_is_allowed("http://127.0.0.1:8080", "127.0.0.1:8080", ""));
  EXPECT_FALSE(origin_is_allowed("http://evil.example", "127.0.0.1:8080", ""));
  EXPECT_FALSE(origin_is_allowed("null", "127.0.0.1:8080", ""));
  EXPECT_TRUE(origin_is_allowed("http://a.example", "127.0.0.1:8080", "http://a.example"));
  for (const char* host : {"", "127.0.0.1", "127.0.0.1:80", "localhost:8080", "[::1]:80"}) {
    EXPECT_TRUE(is_numeric_host(host)) << host;
  }
  EXPECT_FALSE(is_numeric_host("evil.example:8080"));
  EXPECT_FALSE(is_numeric_host("localhost.evil.example"));
}

TEST(ServerKeys, LetInWhoHasOne) {
  const ApiKeys none;
  EXPECT_EQ(none.identify(""), "");
  const ApiKeys keys({"first-key", "second-key"});
  const auto first = keys.identify("Bearer first-key");
  const auto second = keys.identify("Bearer second-key");
  ASSERT_TRUE(first && second);
  EXPECT_NE(*first, *second);
  EXPECT_EQ(first->find("first"), std::string::npos);
  for (const char* wrong : {"", "Bearer ", "first-key", "Bearer first-ke", "Bearer first-key2",
                            "Basic first-key", "Bearer third-key", "bearer"}) {
    EXPECT_FALSE(keys.identify(wrong)) << wrong;
  }
}

TEST(ServerKeys, AreReadFromAFile) {
  const TemporaryFolder folder;
  const std::string path = folder.path("keys");
  const auto write = [&](const std::string& text) { std::ofstream(path) << text; };
  write("# ours\n\n  key-number-1 \nkey-number-2\n");
  EXPECT_TRUE(ApiKeys::load(path).identify("Bearer key-number-2"));
  write("# none\n");
  EXPECT_THROW(ApiKeys::load(path), Error);
  for (const char* text : {"tiny\n", "apart one-key\n"}) {
    write(text);
    try {
      ApiKeys::load(path);
      ADD_FAILURE();
    } catch (const Error& error) {  // which does not give it away
      EXPECT_EQ(std::string(error.what()).find(std::string(text, 4)), std::string::npos);
    }
  }
  EXPECT_THROW(ApiKeys::load(folder.path("absent")), Error);
  EXPECT_TRUE(ApiKeys::load("").empty());
}

TEST(ServerMailbox, IsBounded) {
  asio::io_context io;
  const auto mailbox = std::make_shared<Mailbox>(io.get_executor(), 10000);
  int kept = 0;
  while (mailbox->put({.text = std::string(1000, 'x')})) ++kept;
  EXPECT_GT(kept, 4);
  EXPECT_LT(kept, 10);
  EXPECT_TRUE(mailbox->is_full());
  EXPECT_FALSE(mailbox->put({.text = "y"}));
  mailbox->put({.finish = Finish{}});  // is kept all the same
  std::vector<OwnedEvent> events;
  asio::co_spawn(
      io,
      [&]() -> asio::awaitable<void> { events = co_await mailbox->take(std::chrono::seconds(1)); },
      asio::detached);
  io.run();
  ASSERT_EQ(static_cast<int>(events.size()), kept + 1);
  EXPECT_TRUE(events.back().finish);
}

TEST(ServerMailbox, HandsOverWhatAnotherThreadPuts) {
  asio::io_context io;
  const auto mailbox = std::make_shared<Mailbox>(io.get_executor(), std::size_t{1} << 20);
  std::string text;
  const auto read = [&]() -> asio::awaitable<void> {
    for (bool is_over = false; !is_over;) {
      for (const OwnedEvent& event : co_await mailbox->take(std::chrono::seconds(10))) {
        text += event.text;
        is_over = event.finish.has_value();
      }
    }
    mailbox->close();
  };
  asio::co_spawn(io, read(), asio::detached);
  std::string expected;
  std::thread writer([&] {
    for (int i = 0; i < 1000; ++i) {
      expected += std::to_string(i);
      mailbox->put({.text = std::to_string(i)});
    }
    mailbox->put({.finish = Finish{}});
  });
  io.run();
  writer.join();
  EXPECT_EQ(text, expected);
  EXPECT_FALSE(mailbox->put({.text = "too late"}));
}

}  // namespace
}  // namespace gander::server
