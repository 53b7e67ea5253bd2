package runtime

import (
	"bytes"
	"os"
	"strings"
)

// logTail returns the end of a CRI log file as plain text: at most lines lines
// and limit bytes of content.
func logTail(path string, limit, lines int) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	// Each line carries a time stamp, a stream and a tag: under 48 bytes.
	window := int64(limit + lines*48)
	if st, err := f.Stat(); err == nil && st.Size() > window {
		if _, err := f.Seek(-window, 2); err != nil {
			return ""
		}
	}
	b := make([]byte, window)
	n, _ := f.Read(b)
	var out []string
	for _, line := range bytes.SplitAfter(b[:n], []byte{'\n'}) {
		parts := bytes.SplitN(line, []byte{' '}, 4)
		if len(parts) < 4 {
			continue
		}
		text := string(parts[3])
		if string(parts[2]) == "P" {
			text = strings.TrimSuffix(text, "\n")
		}
		out = append(out, text)
	}
	if len(out) > lines {
		out = out[len(out)-lines:]
	}
	text := strings.Join(out, "")
	if len(text) > limit {
		text = text[len(text)-limit:]
	}
	return text
}
