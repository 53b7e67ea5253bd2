// The program of the test image: one verb and its arguments.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	args := os.Args[1:]
	if len(args) == 0 {
		args = []string{"sleep"}
	}
	switch args[0] {
	case "pause", "sleep": // until a signal
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM, syscall.SIGINT)
		fmt.Println("started")
		<-c
		fmt.Println("stopped")
	case "stubborn": // ignores SIGTERM
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("started")
		for {
			time.Sleep(time.Hour)
		}
	case "exit":
		n, _ := strconv.Atoi(args[1])
		if len(args) > 2 {
			fmt.Println(strings.Join(args[2:], " "))
		}
		os.Exit(n)
	case "message": // leaves a termination message
		check(os.WriteFile("/dev/termination-log", []byte(args[1]), 0o644))
		os.Exit(3)
	case "echo":
		fmt.Println(strings.Join(args[1:], " "))
	case "fail-until": // fails until a file exists, which it makes
		if _, err := os.Stat(args[1]); err != nil {
			check(os.WriteFile(args[1], nil, 0o644))
			os.Exit(1)
		}
	case "cat":
		for _, f := range args[1:] {
			b, err := os.ReadFile(f)
			check(err)
			os.Stdout.Write(b)
		}
	case "test": // does the file exist
		_, err := os.Stat(args[1])
		check(err)
	case "write":
		check(os.WriteFile(args[1], []byte(args[2]), 0o644))
	case "rm":
		check(os.Remove(args[1]))
	case "copy": // standard input to standard output
		io.Copy(os.Stdout, os.Stdin)
	case "id":
		g, _ := os.Getgroups()
		fmt.Println(os.Getuid(), os.Getgid(), g)
	case "env":
		for _, e := range os.Environ() {
			fmt.Println(e)
		}
	case "lines":
		n, _ := strconv.Atoi(args[1])
		for i := range n {
			fmt.Println("line", i)
		}
		time.Sleep(time.Hour)
	case "serve":
		http.HandleFunc("/ok", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "ok") })
		http.HandleFunc("/fail", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) })
		http.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
			if _, err := os.Stat(r.URL.Query().Get("name")); err != nil {
				w.WriteHeader(503)
			}
		})
		fmt.Println("serving")
		check(http.ListenAndServe(args[1], nil))
	default:
		fmt.Fprintln(os.Stderr, "unknown verb", args[0])
		os.Exit(64)
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
