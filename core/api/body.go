package api

import (
	"compress/gzip"
	"errors"
	"io"
	"slices"
	"strconv"
	"sync"
)

const (
	// gzipThreshold is the size from which answers are compressed, as upstream.
	gzipThreshold = 128 << 10
	// chunkBytes is what long answers are written in: with the 9-byte header
	// of an HTTP/2 DATA frame it fills one TLS record (16 KiB) exactly. A
	// byte more costs a second record and system call for every frame.
	chunkBytes = 16<<10 - 9
)

// buffers are lent to answers while they are written.
type buffers struct {
	pending sync.Pool // *[]byte of capacity gzipThreshold
	chunks  sync.Pool // *[]byte of capacity chunkBytes
	gzips   sync.Pool // *gzip.Writer
}

func borrow(p *sync.Pool, size int) *[]byte {
	if b, ok := p.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, 0, size)
	return &b
}

func giveBack(p *sync.Pool, b *[]byte) {
	*b = (*b)[:0]
	p.Put(b)
}

// body writes an answer, compressing it when it is big and the client accepts
// that. Nothing reaches the client before gzipThreshold bytes or Close, so an
// error until then can still be answered with a Status. It holds at most
// gzipThreshold bytes, and must be closed or dropped.
type body struct {
	c           *call
	lent        *buffers
	code        int
	contentType string

	pending *[]byte // until started
	out     *chunks // from then on
	gz      *gzip.Writer
	started bool
}

func (s *Server) body(c *call, code int, contentType string) *body {
	return &body{c: c, lent: &s.buffers, code: code, contentType: contentType}
}

// chunks gathers small writes into writes of chunkBytes.
type chunks struct {
	to  io.Writer
	buf *[]byte
	err error
}

func (w *chunks) Write(p []byte) (int, error) {
	n := len(p)
	for w.err == nil && len(p) > 0 {
		held := *w.buf
		if len(held) == 0 && len(p) >= chunkBytes {
			_, w.err = w.to.Write(p[:chunkBytes])
			p = p[chunkBytes:]
			continue
		}
		take := min(len(p), chunkBytes-len(held))
		*w.buf = append(held, p[:take]...)
		p = p[take:]
		if len(*w.buf) == chunkBytes {
			w.flush()
		}
	}
	return n, w.err
}

func (w *chunks) flush() {
	if w.err == nil && len(*w.buf) > 0 {
		_, w.err = w.to.Write(*w.buf)
		*w.buf = (*w.buf)[:0]
	}
}

func (b *body) Write(p []byte) (int, error) {
	if !b.started {
		if b.pending == nil {
			b.pending = borrow(&b.lent.pending, gzipThreshold)
		}
		if len(*b.pending)+len(p) <= gzipThreshold {
			*b.pending = append(*b.pending, p...)
			return len(p), nil
		}
		if err := b.start(); err != nil {
			return 0, err
		}
	}
	if b.gz != nil {
		return b.gz.Write(p)
	}
	return b.out.Write(p)
}

// start sends the header of a big answer and what is pending.
func (b *body) start() error {
	b.started = true
	h := b.c.w.Header()
	h.Set("Content-Type", b.contentType)
	h.Add("Vary", "Accept-Encoding")
	b.out = &chunks{to: b.c.w, buf: borrow(&b.lent.chunks, chunkBytes)}
	if acceptsGzip(b.c.r) {
		h.Set("Content-Encoding", "gzip")
		gz, ok := b.lent.gzips.Get().(*gzip.Writer)
		if !ok {
			var err error
			if gz, err = gzip.NewWriterLevel(nil, gzip.BestSpeed); err != nil {
				return err
			}
		}
		gz.Reset(b.out)
		b.gz = gz
	}
	b.c.w.WriteHeader(b.code)
	if b.pending == nil {
		return nil
	}
	held := b.pending
	b.pending = nil
	_, err := b.Write(*held)
	if err == nil {
		giveBack(&b.lent.pending, held)
	}
	return err
}

// whole writes an answer that is all there. data is not kept.
func (b *body) whole(data []byte) error {
	if len(data) > gzipThreshold && acceptsGzip(b.c.r) {
		_, err := b.Write(data)
		return errors.Join(err, b.Close())
	}
	b.started = true
	h := b.c.w.Header()
	h.Set("Content-Type", b.contentType)
	h.Add("Vary", "Accept-Encoding")
	h.Set("Content-Length", strconv.Itoa(len(data)))
	b.c.w.WriteHeader(b.code)
	for part := range slices.Chunk(data, chunkBytes) {
		if _, err := b.c.w.Write(part); err != nil {
			return err
		}
	}
	return nil
}

// Close sends what has not been sent.
func (b *body) Close() error {
	if !b.started {
		if b.pending == nil {
			return b.whole(nil)
		}
		held := b.pending
		b.pending = nil
		err := b.whole(*held)
		if err == nil {
			giveBack(&b.lent.pending, held)
		}
		return err
	}
	if b.out == nil {
		return nil
	}
	var err error
	if b.gz != nil {
		err = b.gz.Close()
	}
	b.out.flush()
	// The server may still read a buffer whose write failed: it is not lent
	// again.
	if err = errors.Join(err, b.out.err); err == nil {
		giveBack(&b.lent.chunks, b.out.buf)
		if b.gz != nil {
			b.lent.gzips.Put(b.gz)
		}
	}
	b.out, b.gz = nil, nil
	return err
}
