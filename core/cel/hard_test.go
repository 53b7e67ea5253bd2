package cel

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestHardX(t *testing.T) {
	var a, b runtime.MemStats
	runtime.GC(); runtime.ReadMemStats(&a)
	start := time.Now()
	c := NewCompiler()
	c.Compile("true", Variables{}, Bool)
	d := time.Since(start)
	runtime.GC(); runtime.ReadMemStats(&b)
	fmt.Println("first", d, "heap", (b.HeapAlloc-a.HeapAlloc)>>10, "KiB")
	start = time.Now(); CompileSelector("device.driver == 'a'"); d = time.Since(start)
	runtime.GC(); runtime.ReadMemStats(&a)
	fmt.Println("selector", d, "heap", (a.HeapAlloc-b.HeapAlloc)>>10, "KiB")
	runtime.KeepAlive(c)
	try := func(name, e string) {
		start := time.Now()
		_, err := c.Compile(e, Variables{}, Anything)
		m := "ok"
		if err != nil { m = err.Error(); if len(m) > 100 { m = m[:100] } }
		fmt.Println(name, len(e), time.Since(start), m)
	}
	try("list", "["+strings.Repeat("1,", 49000)+"1]")
	try("plus", strings.Repeat("1+", 49000)+"1")
	try("or", strings.Repeat("true||", 16000)+"true")
	try("tern", strings.Repeat("true?1:", 200)+"1")
	try("parens", strings.Repeat("(", 200)+"1"+strings.Repeat(")", 200))
	try("bad", strings.Repeat("! ", 50000))
	try("badtok", strings.Repeat("@", 100000))
	try("undeclared", "["+strings.Repeat("q,", 49000)+"q]")
	try("undeclared1k", "["+strings.Repeat("q,", 1000)+"q]")
	try("undeclared4k", "["+strings.Repeat("q,", 4000)+"q]")
	for _, n := range []int{4, 8, 10, 12} {
		try(fmt.Sprint("optmap", n), "a"[:0]+"optional.of(1)"+strings.Repeat(".optMap(x, x)", n))
	}
	for _, n := range []int{4, 8, 16} {
		try(fmt.Sprint("nest", n), strings.Repeat("object.all(x, ", n)+"true"+strings.Repeat(")", n))
	}
	try("regex", "'a'.matches('"+strings.Repeat("(a{1000}){1000}", 1)+"')")
	try("in", "1 in ["+strings.Repeat("1,", 49000)+"1]")
}
