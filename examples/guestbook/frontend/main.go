// Command frontend is the web page of the guestbook. It writes to the primary
// store and reads from the replicas, finding both by their Service names.
//
//	GET  /          the page
//	GET  /messages  the messages, one a line
//	POST /messages  adds the body as a message
//	GET  /work?ms=N spins for N milliseconds, for load tests
//	GET  /healthz   200 when the process is up; /readyz when a replica answers
package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"html/template"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// version is set when the image is built.
var version = "1"

const (
	list       = "messages"
	maxMessage = 1 << 12
	maxWork    = 10 * time.Second
)

var page = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{{.Title}}</title>
<h1>{{.Title}}</h1><p>version {{.Version}}, served by {{.Host}}</p>
<form method="post" action="/messages"><input name="message" aria-label="Message"><button>Sign</button></form>
<ul>{{range .Messages}}<li>{{.}}</li>{{end}}</ul>
</html>`))

type frontend struct {
	title, primary, replica string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	f := &frontend{
		title:   cmp.Or(os.Getenv("TITLE"), "Guestbook"),
		primary: cmp.Or(os.Getenv("PRIMARY"), "redis-primary:6379"),
		replica: cmp.Or(os.Getenv("REPLICA"), "redis-replica:6379"),
	}
	if file := os.Getenv("TITLE_FILE"); file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			log.Fatalf("cannot read the title: %v", err)
		}
		f.title = strings.TrimSpace(string(b))
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", f.page)
	mux.HandleFunc("GET /messages", f.messages)
	mux.HandleFunc("POST /messages", f.sign)
	mux.HandleFunc("GET /work", work)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", f.ready)
	srv := &http.Server{Addr: ":" + cmp.Or(os.Getenv("PORT"), "8080"), Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { srv.Shutdown(context.Background()) })
	log.Printf("version %s serving on %s", version, srv.Addr)
	if err := srv.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatalf("cannot serve on %s: %v", srv.Addr, err)
	}
}

func (f *frontend) page(w http.ResponseWriter, r *http.Request) {
	messages, err := f.read(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	host, _ := os.Hostname() // empty is shown as such
	page.Execute(w, map[string]any{"Title": f.title, "Version": version, "Host": host, "Messages": messages})
}

func (f *frontend) messages(w http.ResponseWriter, r *http.Request) {
	messages, err := f.read(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	for _, m := range messages {
		fmt.Fprintln(w, m)
	}
}

func (f *frontend) sign(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxMessage))
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	message := strings.TrimSpace(string(body))
	if v, ok := strings.CutPrefix(message, "message="); ok {
		message = v
	}
	if message == "" {
		http.Error(w, "the message is empty", http.StatusBadRequest)
		return
	}
	if _, err := call(r.Context(), f.primary, "RPUSH", list, message); err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (f *frontend) ready(w http.ResponseWriter, r *http.Request) {
	if _, err := call(r.Context(), f.replica, "PING"); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

func (f *frontend) read(ctx context.Context) ([]string, error) {
	return call(ctx, f.replica, "LRANGE", list, "0", "-1")
}

// work keeps a CPU busy for as long as asked.
func work(w http.ResponseWriter, r *http.Request) {
	ms, err := strconv.Atoi(cmp.Or(r.FormValue("ms"), "20"))
	if err != nil || ms < 0 || time.Duration(ms)*time.Millisecond > maxWork {
		http.Error(w, fmt.Sprintf("ms=%q is not a number from 0 to %d", r.FormValue("ms"), maxWork.Milliseconds()), http.StatusBadRequest)
		return
	}
	n := 0
	for end := time.Now().Add(time.Duration(ms) * time.Millisecond); time.Now().Before(end) && r.Context().Err() == nil; n++ {
	}
	fmt.Fprintf(w, "%d rounds in %d ms\n", n, ms)
}

// call sends one command to a store and returns its answer: a list, or one
// item.
func call(ctx context.Context, address string, args ...string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("cannot reach store %s: %w", address, err)
	}
	defer c.Close()
	if deadline, ok := ctx.Deadline(); ok {
		c.SetDeadline(deadline)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := io.WriteString(c, b.String()); err != nil {
		return nil, fmt.Errorf("cannot ask store %s: %w", address, err)
	}
	out, err := readReply(bufio.NewReader(c))
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", address, err)
	}
	return out, nil
}

func readReply(r *bufio.Reader) ([]string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	line = strings.TrimRight(line, "\r\n")
	if line == "" {
		return nil, errors.New("empty reply")
	}
	switch line[0] {
	case '+', ':':
		return []string{line[1:]}, nil
	case '-':
		return nil, errors.New(line[1:])
	case '$':
		n, err := strconv.Atoi(line[1:])
		if err != nil || n < 0 || n > 1<<20 {
			return nil, fmt.Errorf("bad string length %q", line)
		}
		buf := make([]byte, n+2)
		if _, err := io.ReadFull(r, buf); err != nil {
			return nil, err
		}
		return []string{string(buf[:n])}, nil
	case '*':
		n, err := strconv.Atoi(line[1:])
		if err != nil || n < 0 || n > 1<<20 {
			return nil, fmt.Errorf("bad array length %q", line)
		}
		out := make([]string, 0, min(n, 1024))
		for range n {
			item, err := readReply(r)
			if err != nil {
				return nil, err
			}
			out = append(out, item...)
		}
		return out, nil
	}
	return nil, fmt.Errorf("unknown reply %q", line)
}
