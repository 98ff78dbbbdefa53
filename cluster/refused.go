package cluster

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/covey-ml/covey/comm"
)

// Refusals tells people who was turned away at a door, and why: the first few in a line each, and of a flood only how many.
type Refusals struct {
	clock comm.Clock
	tell  func(text string)

	mu    sync.Mutex
	stop  context.CancelFunc // of the goroutine that tells the count; nil: nothing has happened for a while
	shown int                // lines of this while
	more  map[string]int     // by reason, those since the last count
	last  string             // of them
}

const (
	fewRefusals  = 5                // lines before only the count is told
	mostReasons  = 6                // told apart in a count
	firstRefusal = 5 * time.Second  // before the first count; doubled up to
	lastRefusal  = 10 * time.Minute // this
	longReason   = 200              // bytes
)

// NewRefusals hands lines to tell, which may be nil.
func NewRefusals(clock comm.Clock, tell func(text string)) *Refusals {
	return &Refusals{clock: clock, tell: tell, more: map[string]int{}}
}

// Add tells of one who was turned away. It is fast. What TLS and NATS call the reasons is put in our words.
func (r *Refusals) Add(addr, why string) {
	why = cmp.Or(inWords(why, reasons), inWords(why, silences), why)
	r.note("refused "+addr+": "+clean(why), clean(why), addr)
}

// Warn is Add for what is no refusal.
func (r *Refusals) Warn(text string) { r.note(clean(text), clean(text), "") }

func (r *Refusals) note(line, why, addr string) {
	if r.tell == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stop == nil {
		ctx, stop := context.WithCancel(context.Background())
		r.stop = stop
		r.clock.Go(func() { r.count(ctx) })
	}
	if r.shown < fewRefusals {
		r.shown++
		r.tell(line)
		return
	}
	if _, known := r.more[why]; !known && len(r.more) >= mostReasons {
		why = "other reasons"
	}
	r.more[why]++
	r.last = cmp.Or(addr, r.last)
}

// count tells now and then how many more there were, until there are none.
func (r *Refusals) count(ctx context.Context) {
	for span := firstRefusal; r.clock.Sleep(ctx, span) == nil; span = min(2*span, lastRefusal) {
		r.mu.Lock()
		if len(r.more) == 0 && ctx.Err() == nil {
			r.stop, r.shown = nil, 0
			r.mu.Unlock()
			return
		}
		r.flush()
		r.mu.Unlock()
	}
}

// flush tells the count. r.mu is held.
func (r *Refusals) flush() {
	if len(r.more) == 0 {
		return
	}
	total := 0
	var why []string
	for _, w := range slices.SortedFunc(maps.Keys(r.more), func(a, b string) int { return cmp.Or(r.more[b]-r.more[a], cmp.Compare(a, b)) }) {
		total += r.more[w]
		why = append(why, fmt.Sprintf("%d: %s", r.more[w], w))
	}
	from := ""
	if r.last != "" {
		from = ", the last from " + r.last
	}
	r.tell(fmt.Sprintf("and %d more%s (%s)", total, from, strings.Join(why, "; ")))
	clear(r.more)
	r.last = ""
}

// Close tells what has not been told yet.
func (r *Refusals) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stop != nil {
		r.stop()
		r.stop = nil
	}
	if r.tell != nil {
		r.flush()
	}
}

// clean keeps a stranger's words from playing tricks on a terminal.
func clean(text string) string {
	text = strings.Map(func(c rune) rune {
		if c < ' ' || c >= 0x7f && c < 0xa0 {
			return '?'
		}
		return c
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > longReason {
		text = strings.ToValidUTF8(text[:longReason], "") + "..."
	}
	return text
}

// ofPeer is how a NATS server begins a line about a connection.
var ofPeer = regexp.MustCompile(`^(\S+:\d+) - [a-z_]+:\d+ - (?:"[^"]*" - )?(.*)$`)

// inOurs is a reason in others' words and ours.
type inOurs struct{ theirs, ours string }

// silences are how a stranger's connection ends that came to nothing.
var silences = []inOurs{
	{"use of closed network connection", "others came before it said who it is"},
	{"i/o timeout", "it did not say in time who it is"},
	{"connection reset", "it hung up"},
	{"broken pipe", "it hung up"},
	{"EOF", "it hung up"},
}

// reasons are a NATS server's words, and those of TLS, for turning somebody away. The first that fits is taken.
var reasons = []inOurs{
	{"signed by unknown authority", "its certificate is of another CA"},
	{"certificate has expired", "its certificate has expired, or is not valid yet"},
	{"incompatible key usage", "its certificate is not for this side of a connection"},
	{"certificate is valid for", "its certificate is of another host"},
	{"doesn't contain any IP SANs", "its certificate is of another host"},
	{"didn't provide a certificate", "it shows no certificate"},
	{"failed to verify certificate", "its certificate is not valid"},
	{"first record does not look like", "it does not speak TLS"},
	{"unsupported versions", "it does not speak TLS 1.3"},
	{"oversized record", "it does not speak TLS"},
	{"remote error: tls", "it does not accept our certificate"},
	{"handshake error", "it did not finish the handshake"},
	{"TLS handshake timeout", "it did not finish the handshake in time"},
	{"authentication timeout", "it did not say in time who it is"},
	{"authentication error", "it does not hold the token"},
	{"authorization violation", "it does not hold the token"},
	{"maximum control line", "it sends a line without an end"},
	{"parser error", "it does not speak NATS"},
	{"maximum connections exceeded", "there are too many connections"},
}

// asMeant are a NATS server's warnings of what we mean it to do.
var asMeant = regexp.MustCompile(`^Clients that are not using "TLS Handshake First"|Error flushing: `)

// refusal reads a NATS server's line. addr is empty when the line is not of somebody who was turned away.
func refusal(line string) (addr, why string) {
	m := ofPeer.FindStringSubmatch(line)
	if m == nil {
		return "", line
	}
	if why := inWords(m[2], reasons); why != "" {
		return m[1], why
	}
	return "", m[1] + ": " + m[2]
}

// inWords is a reason in our words, empty when we have none for it.
func inWords(why string, list []inOurs) string {
	why = strings.ToLower(why)
	for _, r := range list {
		if strings.Contains(why, strings.ToLower(r.theirs)) {
			return r.ours
		}
	}
	return ""
}
