package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	clientexec "k8s.io/client-go/util/exec"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

// v5 is the WebSocket protocol in which one side can close its input alone.
// Container runtimes do not speak it, so it is translated to SPDY here.
const v5 = "v5.channel.k8s.io"

// The channels of the protocol.
const (
	channelStdin = iota
	channelStdout
	channelStderr
	channelError
	channelResize
	channelCount
)

// wantsV5 reports whether the client offers v5 over WebSocket.
func wantsV5(r *http.Request) bool {
	if !wsstream.IsWebSocketRequest(r) {
		return false
	}
	for _, h := range r.Header.Values("Sec-Websocket-Protocol") {
		if slices.Contains(strings.Split(strings.ReplaceAll(h, " ", ""), ","), v5) {
			return true
		}
	}
	return false
}

// translate serves one exec or attach over WebSocket v5 by a SPDY connection
// to the runtime.
func (s *Server) translate(w http.ResponseWriter, r *http.Request, to *url.URL, st streams) {
	use := func(on bool, t wsstream.ChannelType) wsstream.ChannelType {
		if on {
			return t
		}
		return wsstream.IgnoreChannel
	}
	channels := make([]wsstream.ChannelType, channelCount)
	channels[channelStdin] = use(st.stdin, wsstream.ReadChannel)
	channels[channelStdout] = use(st.stdout, wsstream.WriteChannel)
	channels[channelStderr] = use(st.stderr, wsstream.WriteChannel)
	channels[channelError] = wsstream.WriteChannel
	channels[channelResize] = wsstream.ReadChannel
	conn := wsstream.NewConn(map[string]wsstream.ChannelProtocolConfig{v5: {Binary: true, Channels: channels}})
	_, ch, err := conn.Open(w, r)
	if err != nil {
		s.tel.Log.Warn("cannot accept WebSocket streams", "error", err)
		return
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	opts := remotecommand.StreamOptions{Tty: st.tty}
	if st.stdin {
		opts.Stdin = ch[channelStdin]
	}
	if st.stdout {
		opts.Stdout = ch[channelStdout]
	}
	if st.stderr {
		opts.Stderr = ch[channelStderr]
	}
	if st.tty {
		opts.TerminalSizeQueue = sizes(ctx, ch[channelResize])
	}
	ex, err := remotecommand.NewSPDYExecutor(&rest.Config{Host: to.Scheme + "://" + to.Host}, http.MethodPost, to)
	if err == nil {
		err = ex.StreamWithContext(ctx, opts)
	}
	b, merr := json.Marshal(outcome(err))
	if merr != nil {
		s.tel.Log.Warn("cannot encode the outcome of a command", "error", merr)
		return
	}
	if _, err := ch[channelError].Write(b); err != nil && ctx.Err() == nil {
		s.tel.Log.Debug("cannot tell the outcome of a command", "error", err)
	}
}

// outcome is how the end of a command is told to the client.
func outcome(err error) metav1.Status {
	if err == nil {
		return metav1.Status{Status: metav1.StatusSuccess}
	}
	var exit clientexec.CodeExitError
	if errors.As(err, &exit) {
		return metav1.Status{Status: metav1.StatusFailure, Reason: "NonZeroExitCode", Message: err.Error(), Details: &metav1.StatusDetails{
			Causes: []metav1.StatusCause{{Type: "ExitCode", Message: fmt.Sprint(exit.Code)}}}}
	}
	return metav1.Status{Status: metav1.StatusFailure, Reason: metav1.StatusReasonInternalError, Message: err.Error()}
}

// sizeQueue hands terminal sizes from the client to the executor.
type sizeQueue struct {
	ctx   context.Context
	sizes chan remotecommand.TerminalSize
}

// sizes reads terminal sizes until the connection closes.
func sizes(ctx context.Context, r io.Reader) *sizeQueue {
	q := &sizeQueue{ctx, make(chan remotecommand.TerminalSize)}
	go func() { // ends when the connection does
		defer close(q.sizes)
		dec := json.NewDecoder(r)
		for {
			var size remotecommand.TerminalSize
			if dec.Decode(&size) != nil {
				return
			}
			select {
			case q.sizes <- size:
			case <-ctx.Done():
				return
			}
		}
	}()
	return q
}

// Next implements remotecommand.TerminalSizeQueue.
func (q *sizeQueue) Next() *remotecommand.TerminalSize {
	select {
	case s, ok := <-q.sizes:
		if ok {
			return &s
		}
	case <-q.ctx.Done():
	}
	return nil
}
