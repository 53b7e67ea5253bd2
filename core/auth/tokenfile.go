package auth

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// TokenFile knows the tokens of a file.
type TokenFile struct {
	users     map[string]*User
	audiences []string
}

// ReadTokenFile reads a CSV file whose records are token, user name, user UID
// and, optionally, groups separated by commas; further columns are ignored. It
// is not read again.
func ReadTokenFile(path string, audiences []string) (*TokenFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read token file: %w", err)
	}
	defer f.Close()
	users, err := parseTokens(f)
	if err != nil {
		return nil, fmt.Errorf("cannot use token file %s: %w", path, err)
	}
	return &TokenFile{users, audiences}, nil
}

func parseTokens(from io.Reader) (map[string]*User, error) {
	r := csv.NewReader(from)
	r.FieldsPerRecord = -1
	users := map[string]*User{}
	for {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			return users, nil
		}
		if err != nil {
			return nil, err
		}
		line, _ := r.FieldPos(0)
		switch {
		case len(record) < 3:
			return nil, fmt.Errorf("line %d has %d columns: want token, user name, user UID and, optionally, groups", line, len(record))
		case record[0] == "":
			return nil, fmt.Errorf("line %d has no token", line)
		case users[record[0]] != nil:
			return nil, fmt.Errorf("line %d has the token of an earlier one", line)
		}
		u := &User{Name: record[1], UID: record[2]}
		if len(record) > 3 && record[3] != "" {
			u.Groups = strings.Split(record[3], ",")
		}
		users[record[0]] = u
	}
}

// VerifyToken implements TokenVerifier.
func (t *TokenFile) VerifyToken(_ context.Context, token string, audiences []string) (*User, []string, bool, error) {
	u, ok := t.users[token]
	matched := intersection(audiences, t.audiences)
	if !ok || len(matched) == 0 {
		return nil, nil, false, nil
	}
	return u, matched, true, nil
}
