#include "data/corpus.h"

#include "data/chat.h"
#include "data/utf8.h"
#include "data_fixtures.h"
#include "expect_error.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

namespace switchyard::data {
namespace {

using std::string;
using testing::expect_error;

TEST(Utf8, AcceptsEveryCharacterAndRefusesItsTruncation) {
  // Oracle: the definition of the encoding (Unicode 15, section 3.9, D92), written for all scalar values.
  for (uint32_t c = 0; c <= 0x10FFFF; c += (c < 0x3000 ? 1 : 97)) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    const auto lead = [&](uint32_t mark, int shift) { return static_cast<char>(mark | c >> shift); };
    const auto tail = [&](int shift) { return static_cast<char>(0x80 | (c >> shift & 63)); };
    string s;
    if (c < 0x80) s = {lead(0, 0)};
    else if (c < 0x800) s = {lead(0xC0, 6), tail(0)};
    else if (c < 0x10000) s = {lead(0xE0, 12), tail(6), tail(0)};
    else s = {lead(0xF0, 18), tail(12), tail(6), tail(0)};
    ASSERT_FALSE(find_invalid_utf8(s)) << c;
    ASSERT_FALSE(find_invalid_utf8("seven.." + s + "more text")) << c;
    for (size_t i = 1; i < s.size(); ++i) {
      ASSERT_EQ(find_invalid_utf8("ab" + s.substr(0, i)), 2u) << c;
      ASSERT_EQ(character_boundary("ab" + s, 2 + i), 2u) << c;
    }
  }
}

TEST(Utf8, RefusesOverlongSurrogatesAndBeyondTheLastCharacter) {
  for (const string bad : {"\x80", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80",
                           "\xF5\x80\x80\x80", "\xFF", "\xC3(", "\xE2\x82("})
    EXPECT_EQ(find_invalid_utf8("12345678" + bad), 8u);
}

TEST(Corpus, EmbeddedCorpusHasEightWorksInFiveDomains) {
  const auto documents = read_corpus(SW_SOURCE_DIR "/data/english_classics.txt");
  ASSERT_EQ(documents.size(), 8u);
  std::map<string, size_t> bytes;
  for (const auto& d : documents) {
    bytes[d.domain] += d.text.size();
    EXPECT_EQ(d.text.front(), '[') << d.name;  // each work opens with its bracketed title
    EXPECT_FALSE(d.scored);
  }
  // The sums of data/english_classics.md.
  const std::map<string, size_t> expected{
      {"drama", 375541}, {"society", 466265}, {"fantasy", 464882}, {"verse", 291351}, {"scripture", 383833}};
  EXPECT_EQ(bytes, expected);
  EXPECT_EQ(documents[4].name, "Alice's Adventures in Wonderland");
}

TEST(Corpus, PlainFileIsOneDocumentAndFormFeedsDivideIt) {
  const TempFolder folder;
  const auto one = read_corpus(folder.write("a.txt", "\xEF\xBB\xBFh\xC3\xA9llo\n"));
  ASSERT_EQ(one.size(), 1u);
  EXPECT_EQ(one[0].text, "h\xC3\xA9llo\n");  // the byte order mark is gone
  EXPECT_EQ(one[0].name, "a.txt");

  const auto three = read_corpus(folder.write("b.log", "one\f\ntwo\f\f\n\nthree\f"));
  ASSERT_EQ(three.size(), 3u);
  EXPECT_EQ(three[0].text, "one");
  EXPECT_EQ(three[1].text, "two");
  EXPECT_EQ(three[2].text, "\nthree");
}

TEST(Corpus, SidecarTableCutsDocumentsByBytes) {
  const TempFolder folder;
  const auto text = folder.write("w.txt", "AAA--\xC3\xA9" "BB");
  folder.write("w.tsv", "title\tbytes\toffset\tdomain\nfirst\t3\t0\tx\r\n\t4\t5\ty\n");
  const auto documents = read_corpus(text);
  ASSERT_EQ(documents.size(), 2u);
  EXPECT_EQ(documents[0].text, "AAA");
  EXPECT_EQ(documents[0].name, "first");
  EXPECT_EQ(documents[0].domain, "x");
  EXPECT_EQ(documents[1].text, "\xC3\xA9" "BB");
  EXPECT_EQ(documents[1].name, "w.txt 2");

  folder.write("w.tsv", "name\tage\nsomebody\t3\n");  // another table, not about this text
  EXPECT_EQ(read_corpus(text).size(), 1u);
}

TEST(Corpus, DamagedSidecarIsRefusedWithItsLine) {
  const TempFolder folder;
  const auto text = folder.write("w.txt", "AAA--\xC3\xA9" "BB");
  const auto refuse = [&](const string& table, std::initializer_list<std::string_view> parts) {
    folder.write("w.tsv", table);
    expect_error(ErrorKind::checkpoint, parts, [&] { (void)read_corpus(text); });
  };
  refuse("offset\ttitle\n0\ta\n", {"w.tsv:1:", "no column 'bytes'"});
  refuse("offset\tbytes\n0\t3\n5\n", {"w.tsv:3:", "1 columns", "2"});
  refuse("offset\tbytes\n0\t3x\n", {"w.tsv:2:", "'bytes' is '3x'"});
  refuse("offset\tbytes\n0\t-3\n", {"w.tsv:2:", "'-3'"});
  refuse("offset\tbytes\n0\t10\n", {"w.tsv:2:", "past the end", "9 bytes"});
  refuse("offset\tbytes\n9223372036854775807\t9223372036854775807\n", {"w.tsv:2:", "past the end"});
  refuse("offset\tbytes\n0\t3\n2\t2\n", {"w.tsv:3:", "offset 2", "ends at 3"});
  refuse("offset\tbytes\n0\t6\n", {"w.tsv:2:", "byte 6", "inside a character"});
}

TEST(Corpus, FolderGivesSortedFilesWithSubFolderAsDomain) {
  const TempFolder folder;
  folder.write("law/b.txt", "2");
  folder.write("law/a/z.md", "1");
  folder.write("top.txt", "3");
  folder.write("top.json", "no");
  folder.write(".git/x.txt", "no");
  folder.write(".hidden.txt", "no");
  folder.write("void.txt", "");
  std::filesystem::create_symlink(folder / "top.txt", folder / "link.txt");
  const auto documents = read_corpus(folder.path());
  ASSERT_EQ(documents.size(), 3u);
  EXPECT_EQ(documents[0].name, "law/a/z.md");
  EXPECT_EQ(documents[0].domain, "law");
  EXPECT_EQ(documents[1].name, "law/b.txt");
  EXPECT_EQ(documents[2].name, "top.txt");
  EXPECT_EQ(documents[2].domain, "");
}

TEST(Corpus, JsonlRowsAreDocuments) {
  const TempFolder folder;
  const auto documents = read_corpus(folder.write("rows.jsonl",
                                                  "{\"text\": \"caf\\u00e9\", \"domain\": \"food\", \"title\": \"T\", \"other\": [1]}\r\n"
                                                  "\n"
                                                  "{\"text\": \"\"}\n"
                                                  "{\"text\": \"last\", \"domain\": null}"));
  ASSERT_EQ(documents.size(), 2u);
  EXPECT_EQ(documents[0].text, "caf\xC3\xA9");
  EXPECT_EQ(documents[0].domain, "food");
  EXPECT_EQ(documents[0].name, "T");
  EXPECT_EQ(documents[1].name, "rows.jsonl:4");
}

TEST(Corpus, DamagedJsonlIsRefusedWithItsLine) {
  const TempFolder folder;
  const auto refuse = [&](const string& line, std::initializer_list<std::string_view> parts) {
    const auto path = folder.write("rows.jsonl", "{\"text\": \"fine\"}\n" + line + "\n");
    expect_error(ErrorKind::checkpoint, parts, [&] { (void)read_corpus(path); });
    expect_error(ErrorKind::checkpoint, {"rows.jsonl:2:"}, [&] { (void)read_corpus(path); });
  };
  refuse("{\"text\": \"open", {"not valid JSON"});
  refuse(string("{\"text\": \"a\"}\0x", 15), {"zero byte"});
  refuse("[1, 2]", {"expected an object, found [1,2]"});
  refuse("{\"txt\": \"a\"}", {"expected the key 'text' or 'messages', found {\"txt\":\"a\"}"});
  refuse("{\"text\": \"a\", \"messages\": [1]}", {"only one of the keys"});
  refuse("{\"text\": \"a\", \"text\": \"b\"}", {"given twice"});
  refuse("{\"text\": 3}", {"text: expected a string, found 3"});
  refuse("{\"text\": \"a\", \"domain\": 3}", {"domain: expected a string"});
  refuse("{\"text\": \"\\ud800\"}", {"not valid JSON"});
  refuse("{\"messages\": []}", {"role 'assistant'", "found []"});
  refuse("{\"messages\": {}}", {"messages: expected an array"});
  refuse("{\"messages\": [\"hi\"]}", {"messages[0]: expected an object"});
  refuse("{\"messages\": [{\"role\": \"user\"}]}", {"messages[0]: key 'content' is missing"});
  refuse("{\"messages\": [{\"role\": \"user\", \"content\": null}]}", {"messages[0].content: expected a string, found null"});
  refuse("{\"messages\": [{\"role\": \"a b\", \"content\": \"c\"}]}", {"messages[0].role: expected a word", "\"a b\""});
  refuse("{\"messages\": [{\"role\": \"user\", \"content\": \"c\"}]}", {"messages: expected at least one turn of the role 'assistant'"});
}

TEST(Corpus, ConversationScoresExactlyTheAssistantsWords) {
  const TempFolder folder;
  const auto documents = read_corpus(folder.write(
      "chat.jsonl",
      R"({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"},)"
      R"( {"role": "assistant", "content": "4"}, {"role": "user", "content": "Sure?"},)"
      R"( {"role": "assistant", "content": "Yes\nsure."}]})"));
  ASSERT_EQ(documents.size(), 1u);
  const string& text = documents[0].text;
  EXPECT_EQ(text, "<|system|>\nBe brief.\n<|user|>\n2+2?\n<|assistant|>\n4\n<|user|>\nSure?\n<|assistant|>\nYes\nsure.\n");
  ASSERT_TRUE(documents[0].scored);
  string scored;
  for (const auto& range : *documents[0].scored) scored += "[" + text.substr(range.begin, range.size()) + "]";
  EXPECT_EQ(scored, "[4\n][Yes\nsure.\n]");
}

TEST(Corpus, UnreadableOrEmptyInputIsRefused) {
  const TempFolder folder;
  expect_error(ErrorKind::io, {"missing.txt"}, [&] { (void)read_corpus(folder / "missing.txt"); });
  expect_error(ErrorKind::checkpoint, {"e.txt", "no text"}, [&] { (void)read_corpus(folder.write("e.txt", "")); });
  const auto latin = folder.write("l.txt", "one\ncl\xE9\n");
  expect_error(ErrorKind::checkpoint, {"l.txt:2:", "0xE9", "offset 6", "UTF-8"}, [&] { (void)read_corpus(latin); });
  std::filesystem::create_directories(folder / "none");
  expect_error(ErrorKind::checkpoint, {"none", "no .txt or .md"}, [&] { (void)read_corpus(folder / "none"); });
}

}  // namespace
}  // namespace switchyard::data
