// Package cluster brings the workers of one run together and watches over them.
//
// A Coordinator, in the process that the user started, waits for the workers, checks who they are, gives each its
// rank and the addresses of the others (Gather), and then hears from them and tells them to stop. A Member is the
// other end, in a worker. Start runs workers as processes of this host. Gradients never pass through here: workers
// talk to each other over a comm.Group.
package cluster

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
)

// version is checked when a worker joins: workers of one run are the same program.
const version = 3

// maxMessage bounds one message; the largest is a welcome, with a job and the addresses of all workers.
const maxMessage = 1 << 20

// Message is what coordinator and members say to each other: one JSON object a line.
type Message struct {
	Kind string `json:"kind"`

	// challenge (coordinator, first) and hello (member's answer)
	Version int    `json:"version,omitempty"`
	Nonce   string `json:"nonce,omitempty"`
	Proof   string `json:"proof,omitempty"` // HMAC-SHA-256 of the nonce under the token
	Want    *int   `json:"want,omitempty"`  // the rank that the member was started as
	Addr    string `json:"addr,omitempty"`  // where the member listens for its peers
	Name    string `json:"name,omitempty"`  // host and process, for people
	Host    string `json:"host,omitempty"`  // see HostID

	Welcome *Welcome `json:"welcome,omitempty"`

	// After the welcome.
	Event  json.RawMessage `json:"event,omitempty"`  // progress, from rank 0
	Report json.RawMessage `json:"report,omitempty"` // the end of a run that went well, from rank 0
	Error  string          `json:"error,omitempty"`  // the end of one that did not
	Code   int             `json:"code,omitempty"`   // its exit code
}

// The kinds of message.
const (
	KindChallenge = "challenge"
	KindHello     = "hello"
	KindWelcome   = "welcome"
	KindRefused   = "refused"
	KindEvent     = "event"
	KindReport    = "report"
	KindError     = "error"
	KindStop      = "stop"
)

// Welcome tells a member what it is in the run.
type Welcome struct {
	Rank       int               `json:"rank"`
	Size       int               `json:"size"`
	Generation uint32            `json:"generation"`
	Secret     string            `json:"secret"`           // hex; peers prove to each other that they hold it
	Peers      []string          `json:"peers"`            // addresses by rank
	Hosts      []string          `json:"hosts"`            // by rank, the HostID of the host that it is on
	Job        []byte            `json:"job"`              // as YAML
	Places     map[string]string `json:"places,omitempty"` // who set each key of the job, for errors
	Resume     string            `json:"resume,omitempty"`
	Local      int               `json:"local"`            // workers on the coordinator's host
	Faults     string            `json:"faults,omitempty"` // a script of package fault, for every worker to follow
	Done       int               `json:"done,omitempty"`   // the step of the checkpoint that Resume names
}

// conn is one end: whole messages, written one at a time.
type conn struct {
	net.Conn
	in  *bufio.Scanner
	out sync.Mutex
}

func newConn(c net.Conn) *conn {
	in := bufio.NewScanner(c)
	in.Buffer(make([]byte, 0, 4096), maxMessage)
	return &conn{Conn: c, in: in}
}

func (c *conn) write(m Message) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(b) >= maxMessage {
		return fmt.Errorf("cluster: a message of %d bytes is over the limit of %d", len(b), maxMessage)
	}
	c.out.Lock()
	defer c.out.Unlock()
	_, err = c.Conn.Write(append(b, '\n'))
	return err
}

var errGone = errors.New("connection closed")

func (c *conn) read() (Message, error) {
	var m Message
	if !c.in.Scan() {
		if err := c.in.Err(); err != nil {
			return m, err
		}
		return m, errGone
	}
	if err := json.Unmarshal(c.in.Bytes(), &m); err != nil {
		return m, fmt.Errorf("cluster: not a message: %w", err)
	}
	return m, nil
}

// bounded runs f on the connection and closes it when ctx ends first, so that no read waits for ever.
func (c *conn) bounded(ctx context.Context, f func() error) error {
	stop := context.AfterFunc(ctx, func() { c.Conn.Close() })
	err := f()
	if !stop() && err != nil {
		return context.Cause(ctx)
	}
	return err
}

func prove(token, nonce string) string {
	h := hmac.New(sha256.New, []byte(token))
	h.Write([]byte("covey join " + nonce))
	return hex.EncodeToString(h.Sum(nil))
}

// Loopback tells whether an address is this host's to itself.
func Loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
