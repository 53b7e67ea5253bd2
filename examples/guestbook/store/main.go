// Command store keeps lists of strings in memory and speaks enough of the Redis
// protocol for the guestbook: PING, RPUSH, LRANGE, LLEN and INFO. A replica
// copies the primary it is given and refuses writes, as Redis does.
//
//	store [--listen :6379] [--replica-of HOST:PORT]
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	listen := flag.String("listen", ":6379", "address to listen on")
	primary := flag.String("replica-of", os.Getenv("PRIMARY"), "host:port of the primary; empty means to be one")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatalf("cannot listen on %s: %v", *listen, err)
	}
	s := &store{lists: map[string][]string{}, readOnly: *primary != ""}
	s.grown = sync.NewCond(&s.mu)
	if s.readOnly {
		go s.follow(ctx, *primary)
	}
	context.AfterFunc(ctx, func() { l.Close() })
	log.Printf("serving on %s, primary %q", l.Addr(), *primary)
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			log.Printf("cannot accept: %v", err)
			continue
		}
		go s.serve(ctx, c)
	}
}

type store struct {
	readOnly bool

	mu    sync.Mutex
	lists map[string][]string
	log   []write // everything ever pushed, in order
	grown *sync.Cond
}

type write struct{ key, value string }

func (s *store) push(w write) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lists[w.key] = append(s.lists[w.key], w.value)
	s.log = append(s.log, w)
	s.grown.Broadcast()
	return len(s.lists[w.key])
}

func (s *store) serve(ctx context.Context, c net.Conn) {
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	r, w := bufio.NewReader(c), bufio.NewWriter(c)
	for {
		args, err := readCommand(r)
		if err != nil {
			return
		}
		if strings.EqualFold(args[0], "COPY-ALL") {
			s.copyTo(w)
			return
		}
		s.answer(w, args)
		if w.Flush() != nil {
			return
		}
	}
}

func (s *store) answer(w *bufio.Writer, args []string) {
	switch cmd := strings.ToUpper(args[0]); {
	case cmd == "PING":
		fmt.Fprint(w, "+PONG\r\n")
	case cmd == "RPUSH" && len(args) == 3:
		if s.readOnly {
			fmt.Fprint(w, "-READONLY You can't write against a read only replica.\r\n")
			return
		}
		fmt.Fprintf(w, ":%d\r\n", s.push(write{args[1], args[2]}))
	case cmd == "LLEN" && len(args) == 2:
		s.mu.Lock()
		defer s.mu.Unlock()
		fmt.Fprintf(w, ":%d\r\n", len(s.lists[args[1]]))
	case cmd == "LRANGE" && len(args) == 4:
		from, err1 := strconv.Atoi(args[2])
		to, err2 := strconv.Atoi(args[3])
		if err1 != nil || err2 != nil {
			fmt.Fprint(w, "-ERR value is not an integer or out of range\r\n")
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		writeArray(w, between(s.lists[args[1]], from, to))
	case cmd == "INFO":
		role := "role:master\r\n"
		if s.readOnly {
			role = "role:slave\r\n"
		}
		fmt.Fprintf(w, "$%d\r\n%s\r\n", len(role), role)
	default:
		fmt.Fprintf(w, "-ERR unknown command '%s' with %d arguments\r\n", args[0], len(args)-1)
	}
}

// between returns list[from..to], both inclusive, negative from the end.
func between(list []string, from, to int) []string {
	if from < 0 {
		from = max(0, len(list)+from)
	}
	if to < 0 {
		to += len(list)
	}
	to = min(to, len(list)-1)
	if from > to {
		return nil
	}
	return list[from : to+1]
}

// copyTo streams every write, past and to come, until the connection breaks.
func (s *store) copyTo(w *bufio.Writer) {
	for next := 0; ; {
		s.mu.Lock()
		for next == len(s.log) {
			s.grown.Wait()
		}
		news := s.log[next:]
		next = len(s.log)
		s.mu.Unlock()
		for _, n := range news {
			writeArray(w, []string{n.key, n.value})
		}
		if w.Flush() != nil {
			return
		}
	}
}

// follow copies the primary, from the start after every break.
func (s *store) follow(ctx context.Context, primary string) {
	for ctx.Err() == nil {
		err := s.copyFrom(ctx, primary)
		log.Printf("cannot follow %s: %v; trying again in a second", primary, err)
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

func (s *store) copyFrom(ctx context.Context, primary string) error {
	c, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", primary)
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	if _, err := fmt.Fprint(c, "*1\r\n$8\r\nCOPY-ALL\r\n"); err != nil {
		return err
	}
	s.mu.Lock()
	s.lists, s.log = map[string][]string{}, nil
	s.mu.Unlock()
	for r := bufio.NewReader(c); ; {
		kv, err := readCommand(r)
		if err != nil {
			return err
		}
		if len(kv) == 2 {
			s.push(write{kv[0], kv[1]})
		}
	}
}

const maxString = 1 << 20

// readCommand reads an array of bulk strings, or a line of words.
func readCommand(r *bufio.Reader) ([]string, error) {
	line, err := readLine(r)
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(line, "*") {
		if words := strings.Fields(line); len(words) > 0 {
			return words, nil
		}
		return nil, errors.New("empty command")
	}
	n, err := strconv.Atoi(line[1:])
	if err != nil || n < 1 || n > 64 {
		return nil, fmt.Errorf("bad array length %q", line)
	}
	args := make([]string, n)
	for i := range args {
		head, err := readLine(r)
		if err != nil {
			return nil, err
		}
		size, err := strconv.Atoi(strings.TrimPrefix(head, "$"))
		if err != nil || size < 0 || size > maxString {
			return nil, fmt.Errorf("bad string length %q", head)
		}
		buf := make([]byte, size+2)
		if _, err := io.ReadFull(r, buf); err != nil {
			return nil, err
		}
		args[i] = string(buf[:size])
	}
	return args, nil
}

func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	return strings.TrimRight(line, "\r\n"), err
}

func writeArray(w *bufio.Writer, items []string) {
	fmt.Fprintf(w, "*%d\r\n", len(items))
	for _, it := range items {
		fmt.Fprintf(w, "$%d\r\n%s\r\n", len(it), it)
	}
}
