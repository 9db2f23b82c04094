#include "engine/grammar/grammar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>
#include <tuple>

#include "base/error.h"
#include "engine/grammar/lazy_automaton.h"
#include "engine/grammar/schema_compiler.h"
#include "tests/support/grammars.h"
#include "tests/support/vocabularies.h"

namespace gander {
namespace {

using Json = nlohmann::ordered_json;
using ::testing::HasSubstr;

struct Case {
  const char* schema;
  std::vector<const char*> yes, no;
};

TEST(Grammar, AcceptsWhatItShould) {
  const std::vector<Case> cases = {
      {R"({"type": "object", "properties": {"b": {"type": "integer"}, "a": {"type": "boolean"}, "c": {}}, "required": ["a"]})",
       {R"({"b":1,"a":true})", R"({"a":false})", R"( {"a": true, "c": [null, {"k": "v"}]})"},
       {R"({"a":true,"b":1})", R"({"b":1})", R"({})", R"({"a":true,})", R"({"a":true,"d":1})",
        R"({"a":  true})", R"({ "a":true})", R"({"a":true} )", "\t{}", R"({,"a":true})"}},
      {R"({"type": "object", "properties": {"ab": {"type": "null"}, "é": true}, "additionalProperties": {"type": "integer"}})",
       {R"({})", R"({"ab":null,"a":1,"abc":2,"":3})", R"({"x":1, "y":2})", R"({"é":"s","e":1})"},
       {R"({"ab":1})", R"({"x":1,"ab":null})", R"({"x":null})", R"({"\u0061b":1})",
        R"({"é":0,"é":"s"})"}},
      {R"({"type": "object", "additionalProperties": false})", {"{}"}, {R"({"a":1})"}},
      {R"({"type": "object"})", {"{}", R"({"a\n":[1.5e3,-0.1]})"}, {"[]", R"({"a"})", R"({1:2})"}},
      {R"({"type": "string"})",
       {R"("")", R"("é日本😀")", R"("\"\\\/\b\f\n\r\t\u00e9")", R"("\ud83d\ude00")", "\"\x7F\""},
       {"\"\n\"", "\"\xFF\"", "\"\xC0\x80\"", "\"\xED\xA0\x80\"", "\"\xF4\x90\x80\x80\"",
        "\"\xE6\x97\"", R"("\ud83d")", R"("\ude00")", R"("\ud83d\u0041")", R"("\ud83d\uec00")",
        R"("\x41")", R"("\u12g4")", R"("a)"}},
      {R"({"type": "string", "minLength": 2, "maxLength": 3})",
       {R"("ab")", R"("日本語")", R"("\n\u0041\ud83d\ude00")"},
       {R"("a")", R"("日")", R"("abcd")", R"("\ud83d\ude00")"}},
      {R"({"type": "string", "pattern": "^[^\\s\"]+@\\w{2,}\\.(com|de)$"})",
       {R"("a.b@xy.com")", R"("é@ab_.de")"},
       {R"("a b@xy.de")", R"("a@b.com")", R"("a@bc.org")", R"("a\"@bc.de")"}},
      {R"({"pattern": "b|^c"})",
       {R"("abc")", R"("cx")", R"("\u0001b\u0002")"},
       {R"("ac")", R"("")", "5"}},
      {R"({"format": "date-time", "type": "string"})",
       {R"("2026-02-28T23:59:59Z")", R"("2026-11-30T00:00:00.25+01:00")"},
       {R"("2026-02-30T00:00:00Z")", R"("2026-11-31T00:00:00Z")", R"("2026-11-30T24:00:00Z")",
        R"("2026-11-30")"}},
      {R"({"format": "uuid", "type": "string"})",
       {R"("01234567-89ab-cdef-0123-456789abcdef")"},
       {R"("0123")"}},
      {R"({"pattern": "^(ab|é)*$", "minLength": 3, "maxLength": 4})",
       {R"("ééé")", R"("abé")", R"("abab")", R"("éabé")"},
       {R"("éé")", R"("ab")", R"("")", R"("ababé")", R"("ééééé")", R"("aba")"}},
      {R"({"pattern": "\\n$", "minLength": 2})",
       {R"("a\n")", R"("\n\n")", R"("日本\n")"},
       {R"("\n")", R"("日本")"}},
      {R"({"pattern": "b", "maxLength": 2})",
       {R"("b")", R"("ab")", R"("b😀")"},
       {R"("b😀a")", R"("a")"}},
      {R"({"type": "string", "format": "date", "minLength": 1})",
       {R"("2026-02-28")"},
       {R"("soon")", R"("")"}},
      {R"({"allOf": [{"minLength": 1, "maxLength": 9}, {"minLength": 2, "maxLength": 3}]})",
       {R"("ab")", R"("abc")"},
       {R"("a")", R"("abcd")"}},
      {R"({"type": "integer"})",
       {"0", "-1", "999999999999999"},
       {"01", "-0", "+1", "1.0", "1e3", "1000000000000000", "-"}},
      {R"({"type": "number"})",
       {"0", "-0.5", "1e9", "1.5E-99", "123456789012345.5"},
       {".5", "1.", "00", "1e", "1e100", "10e5"}},
      {R"({"type": "integer", "minimum": -12, "maximum": 105})",
       {"-12", "-1", "0", "7", "99", "100", "105"},
       {"-13", "-20", "-100", "106", "110", "200", "1000"}},
      {R"({"type": "integer", "exclusiveMinimum": 9, "maximum": 10.5})",
       {"10"},
       {"9", "11", "1", "0", "-10"}},
      {R"({"type": "integer", "minimum": -5.5, "exclusiveMaximum": -2})",
       {"-5", "-3"},
       {"-6", "-2", "0", "3"}},
      {R"({"type": "integer", "multipleOf": 7})",
       {"0", "7", "-14", "777", "999999999999994"},
       {"1", "-8", "70.0", "-0", "999999999999995", "07"}},
      {R"({"multipleOf": 1.0, "maximum": 12})", {"12", "-3", "0"}, {"1.5", "13", "1.0", "1e1"}},
      {R"({"type": "number", "exclusiveMinimum": 0, "maximum": 1})",
       {"0.5", "1", "1.0", "0.00000000000001"},
       {"0", "0.0", "1.01", "-0.5", "2", "1e-1"}},
      {R"({"type": "number", "minimum": -0.25, "exclusiveMaximum": 12.5})",
       {"-0.25", "-0.2", "0", "12.4999", "9.9", "12"},
       {"-0.26", "-1", "12.5", "12.50", "13", "-0.0"}},
      {R"({"type": "number", "minimum": 1e-9, "maximum": 0.00005})",
       {"0.000000001", "0.00005"},
       {"0.0000000009", "0.000051", "0"}},
      {R"({"type": "array", "items": {"type": "null"}, "minItems": 1, "maxItems": 2})",
       {"[null]", "[null, null]"},
       {"[]", "[null,null,null]", "[null,]"}},
      {R"({"type": "array", "prefixItems": [{"const": 1}, {"const": 2}], "items": {"const": 3}, "minItems": 1})",
       {"[1]", "[1,2]", "[1, 2,3, 3]"},
       {"[]", "[2]", "[1,3]", "[1,2,2]"}},
      {R"({"type": "array", "prefixItems": [{"const": 1}]})", {"[]", "[1]"}, {"[1,2]"}},
      {R"({"items": {"$ref": "#/$defs/color"}, "uniqueItems": true, "minItems": 1, "maxItems": 2, "$defs": {"color": {"enum": ["red", "green", "blue", "red", 5], "type": "string"}}})",
       {R"(["red"])", R"(["blue", "red"])", R"(["green","blue"])"},
       {"[]", R"(["red","red"])", R"(["red","green","blue"])", R"(["red"]])", R"([,"red"])", "[5]",
        R"(["red",])"}},
      {R"({"type": "array", "items": {"enum": [1, 1.0, "1"]}, "uniqueItems": true})",
       {"[]", "[1]", R"([1,"1"])", R"(["1", 1])"},
       {"[1,1]", "[1.0]", R"(["1",1,"1"])", R"([1,1.0])"}},
      {R"({"enum": ["a", 1, null, {"k": [true]}], "type": ["string", "object"]})",
       {R"("a")", R"({"k":[true]})"},
       {"1", "null", R"({"k": [true]})"}},
      {R"({"anyOf": [{"required": ["a"]}, {"required": ["b"]}], "type": "object", "properties": {"a": {"const": 1}, "b": {"const": 2}}, "additionalProperties": false})",
       {R"({"a":1})", R"({"b":2})", R"({"a":1,"b":2})"},
       {"{}"}},
      {R"({"type": "array", "items": {"type": "integer"}, "allOf": [{"prefixItems": [{"minimum": 5}, {"type": "string"}]}]})",
       {"[]", "[5]"},
       {"[4]", "[5,6]", R"([5,"a"])"}},
      {R"({"$ref": "#/$defs/pair", "items": {"type": "number", "minimum": 0}, "$defs": {"pair": {"prefixItems": [{"type": "number"}, {"type": "number"}]}}})",
       {"[]", "[5,7]", "[5,7,9]"},
       {"[-5,-7]", "[5,-7]", "[5,7,-9]"}},
      {R"({"allOf": [{"items": {"minimum": 0}}, {"type": "array", "prefixItems": [{"type": "integer", "maximum": 1}], "items": {"type": "integer", "maximum": 9}}]})",
       {"[1,0,9]"},
       {"[2]", "[1,-1]", "[1,10]"}},
      {R"({"oneOf": [{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/dog"}], "$defs": {
            "cat": {"type": "object", "properties": {"kind": {"const": "cat"}, "lives": {"type": "integer"}}, "required": ["kind", "lives"]},
            "dog": {"type": "object", "properties": {"kind": {"const": "dog"}}, "required": ["kind"]}}})",
       {R"({"kind":"cat","lives":9})", R"({"kind":"dog"})"},
       {R"({"kind":"cat"})", R"({"kind":"dog","lives":9})"}},
      {R"({"allOf": [{"$ref": "#/$defs/p"}, {"properties": {"y": {"type": "integer", "maximum": 7}}, "required": ["y"]}],
           "$defs": {"p": {"type": "object", "properties": {"x": {"type": "null"}, "y": {"minimum": 5}}, "required": ["x"]}}})",
       {R"({"x":null,"y":6})"},
       {R"({"x":null})", R"({"x":null,"y":8})", R"({"x":null,"y":4})"}},
      {R"({"$ref": "#/$defs/n", "$defs": {"n": {"type": ["array", "null"], "items": {"$ref": "#/$defs/n"}}}})",
       {"null", "[]", "[[[[null]]], []]"},
       {"[1]", "[[]"}},
      {R"({"type": ["integer", "null"], "nullable": true, "x-other": 5})", {"3", "null"}, {"true"}},
      {R"(true)", {"1", R"({"a":[]})"}, {""}},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(one.schema);
    const auto grammar = compile_json_schema(one.schema, grammar_vocabulary());
    for (const char* text : one.yes) EXPECT_TRUE(accepts(*grammar, text)) << text;
    for (const char* text : one.no) EXPECT_FALSE(accepts(*grammar, text)) << text;
  }
}

TEST(Grammar, MultiplesAreWhatDivisionSays) {
  for (const auto& [divisor, low, high] : std::vector<std::tuple<int, int, int>>{
           {2, -7, 130}, {3, 0, 99}, {12, -1200, -13}, {25, 7, 1004}}) {
    const auto grammar = grammar_of({{"type", "integer"},
                                     {"multipleOf", divisor},
                                     {"exclusiveMinimum", low},
                                     {"maximum", high}});
    for (int value = -1500; value <= 1500; ++value) {
      ASSERT_EQ(accepts(*grammar, std::to_string(value)),
                value > low && value <= high && value % divisor == 0)
          << value << ", multiples of " << divisor;
    }
  }
}

TEST(Grammar, RefusesWhatItCannotPromise) {
  const std::vector<std::pair<const char*, const char*>> cases = {
      {"{", "the schema is no JSON"},
      {"5", "schema #: a schema is an object or a boolean"},
      {R"({"properties": {"a/b": {"not": {}}}})",
       "schema #/properties/a~1b: 'not' is not supported"},
      {R"({"anyOf": [{}, {"patternProperties": {}}]})", "schema #/anyOf/1: 'patternProperties'"},
      {R"({"type": "array", "uniqueItems": true})", "schema #: 'uniqueItems' is supported for"},
      {R"({"items": {"enum": [1, [2]]}, "uniqueItems": true})", "no objects or arrays"},
      {R"({"items": {"enum": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]}, "uniqueItems": true})",
       "at most 10 constants"},
      {R"({"items": {"enum": [1, 2], "minimum": 2}, "uniqueItems": true})",
       "beside 'enum' and 'const' only 'type'"},
      {R"({"items": {"enum": [1, 2]}, "uniqueItems": true, "minItems": 3})",
       "the schema accepts nothing"},
      {R"({"prefixItems": [{"const": 1}], "items": {"const": 1}, "uniqueItems": true})",
       "'uniqueItems' is supported for"},
      {R"({"items": {"const": 1}, "uniqueItems": "yes"})", "'uniqueItems' is a boolean"},
      {R"({"type": "number", "multipleOf": 0.01})", "'multipleOf' is supported for whole numbers"},
      {R"({"type": "integer", "multipleOf": 0})", "'multipleOf' is supported for whole numbers"},
      {R"({"type": "integer", "multipleOf": 99991})", "the schema is too large"},
      {R"({"type": "integer", "multipleOf": 9, "minimum": 10, "maximum": 17})",
       "the schema accepts nothing"},
      {R"({"type": "strnig"})", "schema #/type: there is no type \"strnig\""},
      {R"({"$ref": "#/$defs/a"})", "'$ref' to '#/$defs/a': there is no such place"},
      {R"({"$ref": "other.json"})", "only what is in the same schema"},
      {R"({"$ref": "#"})", "schema #: it refers to itself and nothing else"},
      {R"({"allOf": [{"$ref": "#"}, {"type": "null"}]})", "it refers to itself"},
      {R"({"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a"}}})",
       "it refers to itself and nothing else"},
      {R"({"oneOf": [{"type": "integer"}, {"type": "number"}]})",
       "schema #: 'oneOf' is supported where"},
      {R"({"oneOf": [{"properties": {"a": {"const": 1}}}, {"properties": {"a": {"const": 2}}}]})",
       "0 and 1 are not"},
      {R"({"type": "string", "pattern": "^a{4}", "maxLength": 3})", "the schema accepts nothing"},
      {R"({"pattern": "^.*$", "maxLength": 100000000})", "the schema is too large"},
      {R"({"pattern": "(?=a)b"})",
       "schema #/pattern: the pattern is not understood at its byte 1: look-around"},
      {R"({"pattern": "a(b"})", "')' is missing"},
      {R"({"pattern": "a)b"})", "there is no group to close"},
      {R"({"pattern": "[b-a]"})", "the range is empty"},
      {R"({"pattern": "a^b"})", "an anchor is understood at the ends only"},
      {R"({"pattern": "\\bword"})", "this escape is not supported"},
      {R"({"pattern": "a**"})", "there is nothing to repeat"},
      {R"({"pattern": "((a{100}){100}){100}"})", "the schema is too large"},
      {R"({"type": "number", "minimum": 1e-20})",
       "schema #/minimum: the bound 1e-20 is not supported"},
      {R"({"minLength": -1})", "'minLength' is a whole number"},
      {R"({"type": "string", "maxLength": 100000000})", "the schema is too large"},
      {R"({"type": "string", "minLength": 5, "maxLength": 2})", "the schema accepts nothing"},
      {R"({"type": "integer", "minimum": 3, "maximum": 2})", "the schema accepts nothing"},
      {R"({"enum": []})", "the schema accepts nothing"},
      {"false", "the schema accepts nothing"},
      {R"({"type": "object", "properties": {"me": {"$ref": "#"}}, "required": ["me"]})",
       "the schema accepts nothing"},
      {R"({"type": "object", "required": ["a"], "additionalProperties": false})",
       "the schema accepts nothing"},
      {R"({"type": "array", "items": {"type": "integer"}, "allOf": [{"prefixItems": [{"type": "string"}], "minItems": 1}]})",
       "the schema accepts nothing"},
      {R"({"items": [{"const": 1}], "allOf": [{"prefixItems": [{"const": 2}]}]})",
       "'items' as a list is not supported beside 'prefixItems'"},
      {R"({"const": 1, "minimum": 0})", "beside 'enum' and 'const' only 'type'"},
      {R"({"allOf": [{"pattern": "a"}, {"pattern": "b"}]})", "'pattern' is given twice"},
      {R"({"required": "a"})", "'required' is an array"},
      {R"({"exclusiveMinimum": true, "minimum": 5})", "'exclusiveMinimum' is a number"},
  };
  for (const auto& [schema, message] : cases) {
    SCOPED_TRACE(schema);
    try {
      compile_json_schema(schema, grammar_vocabulary());
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr(message));
    }
  }
  EXPECT_THROW(compile_json_schema(std::string(300, '['), grammar_vocabulary()), Error);
  const std::string deep = [] {
    std::string text;
    for (int i = 0; i < 150; ++i) text += R"({"items":)";
    return text + "{}" + std::string(150, '}');
  }();
  EXPECT_THROW(compile_json_schema(deep, grammar_vocabulary()), Error);
}

TEST(Grammar, MasksAreWhatTheBytesSay) {
  const auto tokenizer = std::make_shared<const Tokenizer>(read_vocabulary(demo_vocabulary_path()));
  const TokenTrie trie(*tokenizer);
  const Pushdown pushdown = compile_schema(
      R"({"type": "object", "properties": {"name": {"type": "string", "maxLength": 30}, "n": {"type": "integer", "maximum": 99},
          "tags": {"type": "array", "items": {"type": "string"}}}, "additionalProperties": {"type": "number"}})");
  const std::vector<std::uint32_t> heights = pushdown.heights();
  LazyAutomaton known(pushdown, heights);
  for (const char* text : {"", "{", R"({"na)", R"({"name": "Lily went)",
                           R"({"name": "caf)"
                           "\xC3",
                           R"({"n": 1)", R"({"tags": ["a", ")", R"({"nam)", R"({"x": -1.)", "{}"}) {
    const auto at = known.advance(known.start(), text);
    ASSERT_NE(at, LazyAutomaton::kDead) << text;
    const auto mask = known.mask(at, trie);
    // The same from a place that only the stacks say.
    LazyAutomaton other(pushdown, heights);
    const auto other_at = other.find(known.stacks(at));
    EXPECT_EQ(*other.mask(other_at, trie), *mask);
    EXPECT_EQ(is_allowed(*mask, 0), known.is_final(at));
    for (TokenId token = 1; token < tokenizer->size(); ++token) {
      const std::string_view bytes = tokenizer->bytes(token);
      const bool expected = !bytes.empty() && known.advance(at, bytes) != LazyAutomaton::kDead;
      ASSERT_EQ(is_allowed(*mask, token), expected) << text << " then " << bytes;
    }
  }
}

TEST(Grammar, NestsSoDeepAndNoDeeper) {
  const auto grammar = grammar_of({{"type", "object"}});
  const auto nested = [](std::size_t levels) {
    return R"({"a":)" + std::string(levels, '[') + std::string(levels, ']') + "}";
  };
  EXPECT_TRUE(accepts(*grammar, nested(50)));
  EXPECT_FALSE(accepts(*grammar, nested(70)));
  // A level that needs more below it is not entered where these are not left: one can always end.
  const auto chain = compile_json_schema(
      R"({"type": "object", "required": ["v"], "properties": {
            "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}, "v": {"$ref": "#/$defs/a"}},
          "$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/b"}, "minItems": 1},
                    "b": {"type": "array", "items": {"$ref": "#/$defs/c"}, "minItems": 1},
                    "c": {"type": "array", "items": {"const": 1}, "minItems": 1}}})",
      grammar_vocabulary());
  const std::unique_ptr<TokenMask> mask = chain->start();
  const auto feed = [&](std::string_view text) {
    for (const char byte : text) {
      const TokenId token = static_cast<unsigned char>(byte) + 1U;
      if (!is_allowed(mask->allowed(), token)) return false;
      mask->accept(token);
    }
    return true;
  };
  int levels = 0;
  while (levels < 100 && is_allowed(mask->allowed(), '{' + 1)) {
    ASSERT_TRUE(feed(R"({"next":)"));
    ++levels;
  }
  EXPECT_GT(levels, 50);
  EXPECT_LT(levels, 64);
  ASSERT_TRUE(feed("null"));
  for (; levels > 0; --levels) ASSERT_TRUE(feed(R"(,"v":[[[1]]]})")) << levels;
  EXPECT_TRUE(is_allowed(mask->allowed(), 0));
}

TEST(Grammar, AWrongTokenIsAnError) {
  const auto mask = grammar_of({{"type", "boolean"}})->start();
  EXPECT_THROW(mask->accept('x' + 1), Error);
  EXPECT_THROW(mask->accept(0), Error);
  mask->accept('t' + 1);  // as if nothing had been tried
  const auto copy = mask->clone();
  for (const char byte : std::string_view("rue"))
    mask->accept(static_cast<unsigned char>(byte) + 1U);
  EXPECT_TRUE(is_allowed(mask->allowed(), 0));
  mask->accept(0);
  EXPECT_FALSE(is_allowed(copy->allowed(), 0));
  copy->accept('r' + 1);
}

TEST(Grammar, IsCompiledOnce) {
  GrammarCache cache(grammar_vocabulary());
  const auto first = cache.json_object();
  EXPECT_EQ(cache.json_object(), first);
  EXPECT_NE(cache.json_schema(R"({"type": "array"})"), first);
  EXPECT_THROW(cache.json_schema("{"), Error);
  for (int i = 0; i < 40; ++i) cache.json_schema(fmt::format(R"({{"const": {}}})", i));
  EXPECT_NE(cache.json_object(), first);
  EXPECT_TRUE(accepts(*first, "{}"));  // still serves who has it
}

TEST(Grammar, ThreadsShareIt) {
  GrammarCache cache(grammar_vocabulary());
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (unsigned seed = 0; seed < 4; ++seed) {
    threads.emplace_back([&, seed] {
      std::mt19937 random(seed);
      for (int round = 0; round < 20; ++round) {
        const std::string text = walk(*cache.json_object(), random);
        wrong += Json::parse(text, nullptr, false).is_object() ? 0 : 1;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace gander
