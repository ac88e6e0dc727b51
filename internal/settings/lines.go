package settings

import (
	"strconv"
	"strings"
)

// Lines maps the path of each key of a TOML document to its line. The TOML
// library knows lines for syntax errors only, and we want them for a port number
// that is too large as well.
//
// Making it looks for the places where keys stand and skips the rest. It judges
// nothing but depth: see indexLines.
type Lines map[string]int

// Of returns the line of path, or of the nearest table around it; 0 if there is
// none.
func (x Lines) Of(path []string) int {
	for ; len(path) > 0; path = path[:len(path)-1] {
		if line, ok := x[indexKey(path)]; ok {
			return line
		}
	}
	return 0
}

// Names reports whether the document itself gives the key a value.
func (x Lines) Names(path ...string) bool { return x[indexKey(path)] > 0 }

// Forget makes a key one that the document does not name, as after an override:
// what is wrong with it from now on is not the document's fault.
func (x Lines) Forget(path ...string) { delete(x, indexKey(path)) }

func indexKey(path []string) string { return strings.Join(path, "\x00") }

// maxDepth bounds nested values and the parts of a dotted key. Our deepest key
// is three levels down; the TOML library takes two seconds for 5,000 nested
// tables, and 16 of these for twice as many.
const maxDepth = 16

type lineScanner struct {
	text    string
	pos     int
	line    int
	index   Lines
	members map[string]int // how often the array of tables at a path was opened
	deep    int            // line of the first place deeper than maxDepth; 0: none
}

// indexLines reads any text, in linear time. deep is the first line that goes
// deeper than maxDepth, 0 if there is none; the text must not be parsed then. In
// a text that is not TOML both results are guesses.
func indexLines(text string) (index Lines, deep int) {
	s := &lineScanner{
		text: strings.TrimPrefix(text, "\ufeff"), line: 1,
		index: Lines{}, members: map[string]int{},
	}
	var table []string
	for s.skipBlank(); s.pos < len(s.text); s.skipBlank() {
		before := s.pos
		if s.text[s.pos] == '[' {
			table = s.header()
		} else {
			s.pair(table, 0)
		}
		if s.pos == before {
			s.advance() // a byte we do not understand: go on behind it
		}
	}
	return s.index, s.deep
}

// header reads [a.b] or [[a.b]] and returns the path of the keys below it.
func (s *lineScanner) header() []string {
	line, array := s.line, strings.HasPrefix(s.text[s.pos:], "[[")
	for s.peek() == '[' {
		s.advance()
	}
	var path []string
	for i, keys := 0, s.dottedKey(); i < len(keys); i++ {
		path = append(path, keys[i])
		s.note(path, line)
		last := i == len(keys)-1
		if n := s.members[indexKey(path)]; array && last {
			s.members[indexKey(path)] = n + 1
			path = append(path, strconv.Itoa(n))
		} else if n > 0 {
			path = append(path, strconv.Itoa(n-1)) // [service.x] is within the latest [[service]]
		}
		s.note(path, line)
	}
	for s.peek() == ']' {
		s.advance()
	}
	return path
}

// pair reads key = value.
func (s *lineScanner) pair(table []string, depth int) {
	line := s.line
	path := append([]string(nil), table...)
	for _, key := range s.dottedKey() {
		path = append(path, key)
		s.note(path, line)
	}
	s.skipSpaces()
	if s.peek() != '=' {
		return
	}
	s.advance()
	s.skipSpaces()
	s.value(path, depth+1)
}

func (s *lineScanner) value(path []string, depth int) {
	switch c := s.peek(); {
	case c == '"' || c == '\'':
		s.quoted()
	case depth > maxDepth && (c == '[' || c == '{'):
		s.tooDeep()
	case c == '[':
		s.array(path, depth)
	case c == '{':
		s.inlineTable(path, depth)
	default:
		for s.pos < len(s.text) && !strings.ContainsRune(",]}#\r\n", rune(s.text[s.pos])) {
			s.advance()
		}
	}
}

func (s *lineScanner) array(path []string, depth int) {
	s.advance()
	for n := 0; ; n++ {
		s.skipSeparators()
		if c := s.peek(); c == ']' || c == 0 {
			s.advance()
			return
		}
		before := s.pos
		member := append(append([]string(nil), path...), strconv.Itoa(n))
		s.note(member, s.line)
		s.value(member, depth+1)
		if s.pos == before {
			s.advance()
		}
	}
}

func (s *lineScanner) inlineTable(path []string, depth int) {
	s.advance()
	for {
		s.skipSeparators()
		if c := s.peek(); c == '}' || c == 0 {
			s.advance()
			return
		}
		before := s.pos
		s.pair(path, depth)
		if s.pos == before {
			s.advance()
		}
	}
}

func (s *lineScanner) dottedKey() []string {
	var keys []string
	for {
		s.skipSpaces()
		if key := s.key(); len(keys) < maxDepth {
			keys = append(keys, key)
		} else {
			s.tooDeep()
		}
		s.skipSpaces()
		if s.peek() != '.' {
			return keys
		}
		s.advance()
	}
}

func (s *lineScanner) key() string {
	if c := s.peek(); c == '"' || c == '\'' {
		return s.quoted()
	}
	start := s.pos
	for s.pos < len(s.text) && !strings.ContainsRune(" \t.=]#\r\n", rune(s.text[s.pos])) {
		s.advance()
	}
	return s.text[start:s.pos]
}

// quoted skips any of TOML's four kinds of strings and returns what is between
// the quotes. Escapes in keys are not decoded: such a key is unknown anyway, and
// its error falls back to the line of its table.
func (s *lineScanner) quoted() string {
	quote := s.text[s.pos : s.pos+1]
	if long := strings.Repeat(quote, 3); strings.HasPrefix(s.text[s.pos:], long) {
		quote = long
	}
	s.skip(len(quote))
	start := s.pos
	for s.pos < len(s.text) && !strings.HasPrefix(s.text[s.pos:], quote) {
		if s.text[s.pos] == '\\' && quote[0] == '"' {
			s.advance()
		}
		s.advance()
	}
	content := s.text[start:min(s.pos, len(s.text))]
	s.skip(len(quote))
	for len(quote) == 3 && s.peek() == quote[0] {
		s.advance() // up to two more quotes may belong to the string
	}
	return content
}

func (s *lineScanner) tooDeep() {
	if s.deep == 0 {
		s.deep = s.line
	}
}

func (s *lineScanner) note(path []string, line int) {
	if key := indexKey(path); s.index[key] == 0 {
		s.index[key] = line
	}
}

// peek returns the byte at the position, 0 at the end.
func (s *lineScanner) peek() byte {
	if s.pos >= len(s.text) {
		return 0
	}
	return s.text[s.pos]
}

func (s *lineScanner) advance() {
	if s.peek() == '\n' {
		s.line++
	}
	s.pos = min(s.pos+1, len(s.text))
}

func (s *lineScanner) skip(n int) {
	for range n {
		s.advance()
	}
}

func (s *lineScanner) skipSpaces() {
	for s.peek() == ' ' || s.peek() == '\t' {
		s.advance()
	}
}

func (s *lineScanner) skipBlank() { s.skipAny(" \t\r\n") }

func (s *lineScanner) skipSeparators() { s.skipAny(" \t\r\n,") }

// skipAny skips the given bytes and comments.
func (s *lineScanner) skipAny(set string) {
	for s.pos < len(s.text) {
		switch c := s.text[s.pos]; {
		case c == '#':
			for s.pos < len(s.text) && s.text[s.pos] != '\n' {
				s.advance()
			}
		case strings.IndexByte(set, c) >= 0:
			s.advance()
		default:
			return
		}
	}
}
