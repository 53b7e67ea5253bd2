package dingtalk

import (
	"strings"
	"unicode/utf8"
)

// cost is how many bytes s takes inside a JSON string, at most.
func cost(s string) (n int) {
	for _, r := range s {
		n += runeCost(r)
	}
	return n
}

func runeCost(r rune) int {
	switch {
	case r == '"' || r == '\\' || r == '\n' || r == '\r' || r == '\t':
		return 2
	case r < 0x20, r == '\u2028', r == '\u2029', r == utf8.RuneError:
		return len(`\u0000`)
	}
	return utf8.RuneLen(r)
}

// split cuts markdown into parts of at most limit bytes inside JSON. It cuts
// before headings where it can, else between lines, else within a line between
// characters. Joined, the parts are the text.
func split(text string, limit int) []string {
	var parts []string
	for cost(text) > limit {
		n := cut(text, limit)
		parts, text = append(parts, text[:n]), text[n:]
	}
	return append(parts, text)
}

// cut returns where the first part ends. It is always at least one character.
func cut(text string, limit int) int {
	used, i := 0, 0
	heading, line := 0, 0 // the last good places to cut
	for i < len(text) {
		r, n := utf8.DecodeRuneInString(text[i:])
		c := runeCost(r)
		if used+c > limit {
			break
		}
		used, i = used+c, i+n
		if text[i-1] == '\n' {
			line = i
			if strings.HasPrefix(text[i:], "#") {
				heading = i
			}
		}
	}
	switch {
	case heading > i/2: // a part half empty is worse than a cut alert
		return heading
	case line > 0:
		return line
	}
	return max(i, firstRune(text))
}

func firstRune(s string) int {
	_, n := utf8.DecodeRuneInString(s)
	return n
}
