package settings

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Choice is a key whose value is one of a few words. Later has words that
// documentation of later versions names, so that their answer is not "unknown".
type Choice struct {
	Allowed []string
	Later   []string
}

// Check returns what is wrong with word and a hint, or "".
func (c Choice) Check(word string) (text, hint string) {
	switch {
	case slices.Contains(c.Allowed, word):
		return "", ""
	case slices.Contains(c.Later, word):
		return fmt.Sprintf("%s is not in this version: want %s", Quote(word), OneOf(c.Allowed)), ""
	}
	return fmt.Sprintf("%s is unknown: want %s", Quote(word), OneOf(c.Allowed)), Guess(word, c.Allowed)
}

// OneOf is the words as a person would offer them.
func OneOf(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = strconv.Quote(w)
	}
	return strings.Join(quoted, " or ")
}

// maxQuoted keeps messages about hostile values short.
const maxQuoted = 80

// Quote is s in quotes, with everything strange escaped, cut after 80 bytes.
func Quote(s string) string {
	if len(s) > maxQuoted {
		return strconv.Quote(s[:maxQuoted]) + "…"
	}
	return strconv.Quote(s)
}

// Dotted is a path for people: without the numbers of list members, and with
// anything strange quoted.
func Dotted(path []string) string {
	var parts []string
	for i, p := range path {
		if _, err := strconv.Atoi(p); err == nil && i > 0 {
			continue
		}
		if quoted := Quote(p); strings.ContainsAny(p, ". ") || quoted != `"`+p+`"` {
			p = quoted
		}
		parts = append(parts, p)
	}
	return strings.Join(parts, ".")
}

// maxGuessDistance is how many typing mistakes a guess may repair: with three,
// "role" would be offered for "mode".
const maxGuessDistance = 2

// Guess returns "did you mean ...?" when word is close to one of the known
// words, else "".
func Guess(word string, known []string) string {
	best, bestDistance := "", maxGuessDistance+1
	for _, k := range known {
		if d := distance(strings.ToLower(word), k); d < bestDistance && d < len(k) {
			best, bestDistance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("did you mean %q?", best)
}

// distance counts the insertions, deletions and replacements between two words
// (Levenshtein). Words longer than any key of ours are simply far apart.
func distance(a, b string) int {
	if len(a) > 40 || len(b) > 40 {
		return maxGuessDistance + 1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
