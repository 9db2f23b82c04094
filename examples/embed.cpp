// A program that uses gander as a library: continues a text with the built-in model or another.
//   c++ -std=c++20 embed.cpp $(pkg-config --cflags --libs gander)
//   ./a.out "Once upon a time" [MODEL]

#include <gander/gander.hpp>
#include <iostream>
#include <string>
#include <string_view>

int main(int argc, char** argv) {
  try {
    const std::string prompt = argc > 1 ? argv[1] : "Once upon a time";
    const gander::Model model = argc > 2 ? gander::Model(argv[2]) : gander::Model::builtin();

    gander::Session session(model);
    session.set_sampling({.temperature = 1.0F, .top_p = 0.5F, .seed = 1});
    session.append(prompt);
    std::cout << prompt;
    const gander::Generated result =
        session.generate({.max_tokens = 100}, [](std::string_view piece) {
          std::cout << piece << std::flush;
          return true;
        });
    std::cout << "\n(" << result.tokens << " tokens, " << result.tokens / result.seconds
              << " a second)\n";
    return 0;
  } catch (const gander::Error& error) {
    std::cerr << "error: " << error.what() << '\n';
    return 1;
  }
}
