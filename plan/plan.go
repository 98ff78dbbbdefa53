// Package plan says what a run will cost before it is paid for, and what this machine is, measured.
//
// Of writes down the communication of a job in closed form: each operation of a step or round, how many messages and bytes
// all workers send for it, in how many rounds, and what that takes when a message costs alpha and a byte beta. Check then
// runs some steps of the same job, counts what every worker really sends, and holds the one against the other. A Probe is
// what a machine's cores, memory and transports were measured at; Measure makes one.
//
// # The formulas
//
// P workers each have a vector of S bytes. A message of n bytes takes alpha + beta n (Hockney, The communication challenge
// for MPP, 1994), and an addition gamma a byte. A round is messages that wait for those of the round before, so it costs
// alpha whatever else happens. Per worker, when each owns one part of the sum:
//
//	                     rounds            messages    bytes             time
//	direct               2                 2(P-1)      2 (P-1)/P S       2 alpha + 2 (P-1)/P S beta + (P-1)/P S gamma
//	ring                 2(P-1)            2(P-1)      2 (P-1)/P S       2(P-1) alpha + 2 (P-1)/P S beta + (P-1)/P S gamma
//	doubling             log2 P            log2 P      log2 P S          log2 P (alpha + S beta + S gamma)
//	tree                 2 ceil(log2 P)    at most log2 P down and 1 up   the root: 2 ceil(log2 P)(alpha + S beta) + additions
//	gather               1                 P-1         (P-1) S           alpha + (P-1) S beta + (P-1) S gamma
//	n servers            2                 its 2P      its 2 P S/n       2 alpha + 2 P S/n beta + (P-1) S/n gamma: a server's, the busiest
//
// The bytes of direct and ring are the least that an all-reduce can do with (Patarasuk and Yuan, Bandwidth optimal all-reduce
// algorithms for clusters of workstations, 2009, theorem 1). Ring's, doubling's and the binomial tree's times are those of
// Thakur, Rabenseifner and Gropp, Optimization of collective communication operations in MPICH, 2005, sections 4.1 to 4.5.
// Direct has ring's bytes and pays alpha twice, since a rank may talk to all others at once; on a network where it may not,
// its 2(P-1) messages cost what comm.Costs calls Message.
//
// A compressor that turns S bytes into c S sends 2 (P-1)/P c S two-way, in two rounds, or (P-1) c S in one round, by all to
// all, when it is sparse. Talking every K steps divides all of it by K (Stich, Local SGD converges fast and communicates
// little, 2019); SCAFFOLD doubles it.
//
// What has no closed form is told apart: codes whose lengths depend on the numbers they stand for are costed as those of
// normally distributed ones, and what travels as text is as long as its numbers' digits.
package plan

import (
	"fmt"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/shm"
	"github.com/covey-ml/covey/comm/tcp"
	"github.com/covey-ml/covey/train"
)

// Scene is where a job runs: how many workers there are, and what messages between them cost.
type Scene struct {
	Name    string // of the transport or network, for people
	Workers int    // and servers
	// Costs are what algorithms are chosen and priced by. With a board in them, workers sum in shared memory.
	Costs  comm.Costs
	Hosts  comm.Hosts  // nil: one host
	Framer comm.Framer // what carries a message; nil: nothing
}

// SceneOn is the scene of a group that is there.
func SceneOn(g comm.Group) Scene {
	s := Scene{Workers: g.Size(), Costs: comm.CostsOf(g)}
	s.Name = s.Costs.Name
	s.Framer, _ = g.(comm.Framer)
	if b, ok := g.(comm.Boarder); !ok || b.Board() == nil {
		s.Costs.Board = comm.BoardCosts{}
	}
	return s
}

// TCP is the scene of workers over TCP on one host.
func TCP(workers int) Scene {
	return Scene{Name: "tcp", Workers: workers, Costs: comm.TCPCosts, Framer: tcpFrames{}}
}

// tcpFrames is the framing of comm/tcp.
type tcpFrames struct{}

func (tcpFrames) Overhead(n int) int { return tcp.Overhead(n) }

// ShmFrames is the framing of messages in shared memory.
type ShmFrames struct{}

// Overhead implements comm.Framer.
func (ShmFrames) Overhead(n int) int { return shm.Overhead(n) }

// Sent is what one worker, or all, send.
type Sent struct {
	Messages int64 `json:"messages"`
	Payload  int64 `json:"payload"`
	Header   int64 `json:"header"`
}

// Bytes is payload and header.
func (s Sent) Bytes() int64 { return s.Payload + s.Header }

func (s *Sent) add(o Sent, times int) {
	s.Messages += int64(times) * o.Messages
	s.Payload += int64(times) * o.Payload
	s.Header += int64(times) * o.Header
}

// Line is one operation and what it costs.
type Line struct {
	Phase     Phase   `json:"phase"`
	What      string  `json:"what"` // is sent
	When      string  `json:"when"`
	Times     int     `json:"times"` // in the whole run
	Op        string  `json:"op"`    // as the ledger books it
	How       string  `json:"how"`   // the algorithm
	Formula   string  `json:"formula"`
	Sent              // by all workers, each time
	Rounds    int     `json:"rounds"`      // messages that wait for each other
	Busiest   int64   `json:"busiest"`     // bytes that the busiest worker sends or receives, without headers
	Latency   float64 `json:"latency_s"`   // each time, of rounds and messages
	Bandwidth float64 `json:"bandwidth_s"` // of bytes
	Adding    float64 `json:"adding_s"`    // of additions
	Exact     bool    `json:"exact"`       // the messages and bytes are a function of the job alone
	Counted   bool    `json:"counted"`     // the number of messages is, if not the bytes
	Why       string  `json:"why,omitempty"`

	op       comm.Op
	sent     []Sent // by rank, each time
	received []Sent // the same, where there are servers
}

// Time is the seconds that the operation takes each time, when nothing else goes on.
func (l *Line) Time() float64 { return l.Latency + l.Bandwidth + l.Adding }

// Phase is a part of a run.
type Phase string

// The phases.
const (
	Start     Phase = "start"     // workers meet
	Exchanges Phase = "exchanges" // steps and rounds
	EpochEnds Phase = "epochs"    // sample books and tests at the ends of epochs
	Saves     Phase = "saves"     // checkpoints; state that is each worker's own, which rank 0 collects, is not counted
	End       Phase = "end"       // the report
)

var phases = []Phase{Start, Exchanges, EpochEnds, Saves, End}

// Cost is what a run's communication comes to.
type Cost struct {
	Scene       string  `json:"scene"`
	Workers     int     `json:"workers"`
	Servers     int     `json:"servers,omitempty"`
	Hosts       int     `json:"hosts"`
	Microshards int     `json:"microshards"`
	Parameters  int     `json:"parameters"`
	Steps       int     `json:"steps"`
	Strategy    string  `json:"strategy"`
	Compress    string  `json:"compress,omitempty"`
	Alpha       float64 `json:"alpha_s"` // of a round, between hosts where there are several
	Beta        float64 `json:"beta_s"`  // of a byte
	Lines       []Line  `json:"operations"`
	Exchange    Total   `json:"exchange"` // of all steps
	// Each is what a worker and a server send and get in all steps, the busiest of their kind; nil without servers.
	Each  *Each `json:"each,omitempty"`
	Other Total `json:"other"` // of meeting, testing and saving
	// Exactly is what exact all-reduces of all parameters in every step would send as payload: what is saved by talking less,
	// or in codes.
	Exactly int64  `json:"bytes_exactly"`
	Check   *Check `json:"check,omitempty"` // nil: nothing was run

	outline *train.Outline
	scene   Scene
}

// Total is a sum over lines, each as often as it happens.
type Total struct {
	Sent
	Seconds float64 `json:"seconds"` // of operations one after the other
	Exact   bool    `json:"exact"`
}

// Of works out what a run of c on the scene sends. The error is that of a Config that cannot run, or says that how often its
// strategy talks depends on the data.
func Of(c train.Config, s Scene) (*Cost, error) {
	c.Hosts = s.Hosts
	o, err := c.Outline(s.Workers, s.Costs)
	if err != nil {
		return nil, err
	}
	s.Costs = o.Costs
	k := &Cost{Scene: s.Name, Workers: s.Workers - o.Servers, Servers: o.Servers, Hosts: max(1, len(s.Hosts)), Microshards: o.Config.Microshards, Parameters: o.Config.Model.Layout().Len(),
		Steps: o.Steps, Strategy: fmt.Sprint(o.Strategy), Compress: o.Config.Compress, Alpha: s.Costs.Alpha, Beta: s.Costs.Beta, outline: o, scene: s}
	if len(s.Hosts) > 1 {
		k.Alpha, k.Beta = s.Costs.Far.Alpha, s.Costs.Beta+s.Costs.Far.Beta
	}
	b := &builder{scene: s, o: o}
	if err := b.exchanges(); err != nil {
		return nil, err
	}
	b.around()
	for _, p := range phases {
		for _, l := range b.lines {
			if l.Phase == p {
				k.Lines = append(k.Lines, l)
			}
		}
	}
	k.Exchange, k.Other = k.total(true), k.total(false)
	k.Each = k.each()
	k.Exactly = 2 * int64(k.Workers-1) * 4 * int64(k.Parameters) * int64(o.Steps)
	return k, nil
}

// Each is what one of a kind says in all steps.
type Each struct {
	Worker Said `json:"worker"`
	Server Said `json:"server"`
}

// Said is what a rank sends, and what comes to it.
type Said struct {
	Sent     Sent `json:"sent"`
	Received Sent `json:"received"`
}

// each is that of the busiest worker and the busiest server.
func (k *Cost) each() *Each {
	if k.Servers == 0 {
		return nil
	}
	e := &Each{}
	for r := range k.Workers + k.Servers {
		var s Said
		for _, l := range k.Lines {
			if l.Phase == Exchanges {
				s.Sent.add(l.sent[r], l.Times)
				s.Received.add(l.received[r], l.Times)
			}
		}
		most := &e.Worker
		if r >= k.Workers {
			most = &e.Server
		}
		if s.Sent.Bytes()+s.Received.Bytes() > most.Sent.Bytes()+most.Received.Bytes() {
			*most = s
		}
	}
	return e
}

func (k *Cost) total(exchanges bool) (t Total) {
	t.Exact = true
	for _, l := range k.Lines {
		if (l.Phase == Exchanges) == exchanges {
			t.add(l.Sent, l.Times)
			t.Seconds += float64(l.Times) * l.Time()
			t.Exact = t.Exact && l.Exact
		}
	}
	return t
}
