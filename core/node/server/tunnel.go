package server

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"

	"github.com/gorilla/websocket"
	"k8s.io/client-go/tools/portforward"
)

// tunnelProtocol carries a whole SPDY connection in WebSocket messages. kubectl
// forwards ports over it where it can; runtimes do not speak it.
const (
	portForwardProtocol = "portforward.k8s.io"
	tunnelProtocol      = "SPDY/3.1+" + portForwardProtocol
)

func wantsTunnel(r *http.Request) bool {
	return slices.Contains(websocket.Subprotocols(r), tunnelProtocol)
}

// tunnel joins a WebSocket client with a SPDY connection to the runtime.
func (s *Server) tunnel(w http.ResponseWriter, r *http.Request, to *url.URL) {
	backend, rest, err := dialSPDY(r, to)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer backend.Close()
	up := websocket.Upgrader{Subprotocols: []string{tunnelProtocol}, CheckOrigin: func(*http.Request) bool { return true }}
	ws, err := up.Upgrade(w, r, nil)
	if err != nil {
		s.tel.Log.Debug("cannot accept WebSocket tunnel", "error", err) // Upgrade answered the client
		return
	}
	client := portforward.NewTunnelingConnection("server", ws)
	defer client.Close()
	done := make(chan error, 2)
	go func() { _, err := io.Copy(client, rest); done <- err }()
	go func() { _, err := io.Copy(backend, client); done <- err }()
	// Either side's end is the end; closing both wakes the other copy.
	first := <-done
	client.Close()
	backend.Close()
	<-done
	if first != nil && !errors.Is(first, net.ErrClosed) && r.Context().Err() == nil {
		s.tel.Log.Debug("WebSocket tunnel ended", "error", first)
	}
}

// dialSPDY upgrades a connection to the runtime's streaming server. rest reads
// what follows the answer.
func dialSPDY(r *http.Request, to *url.URL) (net.Conn, io.Reader, error) {
	var d net.Dialer
	conn, err := d.DialContext(r.Context(), "tcp", to.Host)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot reach the container runtime's streams: %w", err)
	}
	req, err := http.NewRequestWithContext(r.Context(), http.MethodPost, to.String(), nil)
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "SPDY/3.1")
	req.Header.Set("X-Stream-Protocol-Version", portForwardProtocol)
	if err := req.Write(conn); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("cannot ask for a stream: %w", err), conn.Close())
	}
	br := bufio.NewReader(conn)
	resp, err := http.ReadResponse(br, req)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("cannot ask for a stream: %w", err), conn.Close())
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return nil, nil, errors.Join(fmt.Errorf("cannot ask for a stream: the runtime answers %s", resp.Status), conn.Close())
	}
	return conn, br, nil
}
