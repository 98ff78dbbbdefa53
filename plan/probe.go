package plan

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/network"
	"github.com/covey-ml/covey/spec"
)

// Probe is what a machine was measured at.
type Probe struct {
	Version int    `json:"version"` // ProbeVersion
	Made    string `json:"made"`    // when
	System  string `json:"system"`  // as linux/amd64, and the kernels that vec took
	Cores   int    `json:"cores"`
	Cache   int    `json:"cache"` // bytes of the last-level cache; 0: unknown
	RAM     int64  `json:"ram"`   // bytes; 0: unknown

	Model    string  `json:"model"`     // whose gradients were computed
	Batch    int     `json:"batch"`     // samples of each gradient
	FLOPS    Reading `json:"flops"`     // of a gradient on one core, a second
	FLOPSAll Reading `json:"flops_all"` // of gradients on all cores at once, all together

	// Bytes a second of adding one vector to another, of which two are read and one is written.
	InCache   Reading `json:"in_cache"`   // vectors that stay in a core's own cache
	Memory    Reading `json:"memory"`     // vectors beyond all caches, one core
	MemoryAll Reading `json:"memory_all"` // the same, all cores together

	Transports map[string]Transport `json:"transports"` // by name
}

// Transport is what the messages of a transport cost between two workers of the machine, in seconds: see comm.Costs.
type Transport struct {
	Alpha   Reading `json:"alpha"`
	Message Reading `json:"message"`
	Beta    Reading `json:"beta"`
	Gamma   Reading `json:"gamma"`

	// Processor time of a message and of a byte at each end; 0: not measured.
	Send        float64 `json:"send,omitempty"`
	Receive     float64 `json:"receive,omitempty"`
	SendByte    float64 `json:"send_byte,omitempty"`
	ReceiveByte float64 `json:"receive_byte,omitempty"`
}

// Reading is a number that was measured several times.
type Reading struct {
	Median  float64 `json:"median"`
	Least   float64 `json:"least"`
	Most    float64 `json:"most"`
	Repeats int     `json:"repeats"`
}

// reading makes the reading of some measurements, of which there is one at least.
func reading(all []float64) Reading {
	all = slices.Sorted(slices.Values(all))
	n := len(all)
	return Reading{Median: (all[(n-1)/2] + all[n/2]) / 2, Least: all[0], Most: all[n-1], Repeats: n}
}

// Spread is half the distance from the least to the most, as a part of the median.
func (r Reading) Spread() float64 {
	if r.Median == 0 {
		return 0
	}
	return (r.Most - r.Least) / 2 / r.Median
}

const (
	// ProbeVersion is the version of the file that is written and read.
	ProbeVersion = 1
	mostProbe    = 64 << 10 // bytes of a file
	mostText     = 256
	mostPlaces   = 16 // transports
)

// ProbeError is a file that holds no measurement.
type ProbeError struct {
	Where string // file, or file:line
	Err   error
}

func (e *ProbeError) Error() string { return e.Where + ": " + e.Err.Error() }

// Unwrap returns what is wrong.
func (e *ProbeError) Unwrap() error { return e.Err }

// LoadProbe reads a file that Save wrote. Errors are *ProbeError.
func LoadProbe(path string) (*Probe, error) {
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if near := spec.NearestPath(path); near != "" {
			return nil, &ProbeError{path, fmt.Errorf("there is no such file: did you mean %s? (covey probe makes one)", near)}
		}
		return nil, &ProbeError{path, errors.New("there is no such file: covey probe makes one")}
	case err != nil:
		return nil, &ProbeError{path, err}
	case st.IsDir():
		return nil, &ProbeError{path, errors.New("is a folder, expected the file that covey probe wrote")}
	case st.Size() > mostProbe:
		return nil, &ProbeError{path, fmt.Errorf("not a measurement: over %d bytes", mostProbe)}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, &ProbeError{path, err}
	}
	return ParseProbe(path, text)
}

// ParseProbe reads what Bytes wrote; name is the file's name in errors, which are *ProbeError.
func ParseProbe(name string, text []byte) (*Probe, error) {
	if len(text) > mostProbe {
		return nil, &ProbeError{name, fmt.Errorf("not a measurement: over %d bytes", mostProbe)}
	}
	p := &Probe{}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(p); err != nil {
		return nil, probeSyntax(name, text, d.InputOffset(), err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, &ProbeError{at(name, text, d.InputOffset()), errors.New("more follows behind the measurement")}
	}
	if err := p.check(); err != nil {
		return nil, &ProbeError{name, err}
	}
	if p.Transports == nil {
		p.Transports = map[string]Transport{}
	}
	return p, nil
}

// probeKeys are the words that a file may have as keys.
var probeKeys = []string{"version", "made", "system", "cores", "cache", "ram", "model", "batch", "flops", "flops_all", "in_cache", "memory",
	"memory_all", "transports", "alpha", "message", "beta", "gamma", "send", "receive", "send_byte", "receive_byte", "median", "least", "most", "repeats"}

// probeSyntax says in words for people what is wrong with a file, and where.
func probeSyntax(name string, text []byte, read int64, err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return &ProbeError{at(name, text, syntax.Offset), fmt.Errorf("not a measurement: %w", err)}
	case errors.As(err, &kind):
		return &ProbeError{at(name, text, kind.Offset), fmt.Errorf("%s is a %s, expected a %v", cmp.Or(kind.Field, "the file"), kind.Value, kind.Type)}
	}
	if _, key, ok := strings.Cut(err.Error(), "unknown field "); ok {
		key, _ = strconv.Unquote(key)
		if i := bytes.Index(text, strconv.AppendQuote(nil, key)); i >= 0 {
			read = int64(i)
		}
		return &ProbeError{at(name, text, read), spec.OneOf("key", key, probeKeys...)}
	}
	return &ProbeError{at(name, text, read), fmt.Errorf("not a measurement: %w", err)}
}

// at is a file and the line that an offset is in.
func at(name string, text []byte, offset int64) string {
	return fmt.Sprintf("%s:%d", name, 1+bytes.Count(text[:min(int(offset), len(text))], []byte("\n")))
}

// check refuses numbers that no machine has.
func (p *Probe) check() error {
	switch {
	case p.Version != ProbeVersion:
		return fmt.Errorf("version is %d, expected %d: measure again with covey probe", p.Version, ProbeVersion)
	case p.Cores < 1 || p.Cores > 1<<16:
		return fmt.Errorf("cores is %d, expected 1 to %d", p.Cores, 1<<16)
	case p.Cache < 0 || int64(p.Cache) > 1<<40 || p.RAM < 0 || p.RAM > 1<<50:
		return fmt.Errorf("cache is %d and ram %d, expected bytes", p.Cache, p.RAM)
	case p.Batch < 1 || p.Batch > 1<<30:
		return fmt.Errorf("batch is %d, expected at least 1", p.Batch)
	case max(len(p.Made), len(p.System), len(p.Model)) > mostText:
		return fmt.Errorf("made, system or model is longer than %d bytes", mostText)
	case len(p.Transports) > mostPlaces:
		return fmt.Errorf("%d transports, expected up to %d", len(p.Transports), mostPlaces)
	}
	for _, r := range []struct {
		key string
		Reading
	}{{"flops", p.FLOPS}, {"flops_all", p.FLOPSAll}, {"in_cache", p.InCache}, {"memory", p.Memory}, {"memory_all", p.MemoryAll}} {
		if err := r.check(r.key, 1e3, 1e18); err != nil {
			return err
		}
	}
	for name, t := range p.Transports {
		if err := spec.OneOf("transport", name, "inproc", "shm", "tcp"); err != nil {
			return err
		}
		for _, r := range []struct {
			key string
			Reading
		}{{"alpha", t.Alpha}, {"message", t.Message}, {"beta", t.Beta}, {"gamma", t.Gamma}} {
			if err := r.check(name+": "+r.key, 0, 100); err != nil {
				return err
			}
		}
		for _, x := range []float64{t.Send, t.Receive, t.SendByte, t.ReceiveByte} {
			if !(x >= 0 && x <= 100) {
				return fmt.Errorf("%s: a message costs %v of processor time, expected seconds", name, x)
			}
		}
		if t.Alpha.Median == 0 {
			return fmt.Errorf("%s: alpha is 0: no message takes no time", name)
		}
	}
	return nil
}

func (r Reading) check(key string, least, most float64) error {
	switch {
	case !(r.Median >= least && r.Median <= most):
		return fmt.Errorf("%s: median is %v, expected %v to %v", key, r.Median, least, most)
	case !(r.Least <= r.Median && r.Median <= r.Most) || math.IsInf(r.Most, 0) || r.Least < 0:
		return fmt.Errorf("%s: the median %v is not from least, %v, to most, %v", key, r.Median, r.Least, r.Most)
	case r.Repeats < 1:
		return fmt.Errorf("%s: repeats is %d, expected at least 1", key, r.Repeats)
	}
	return nil
}

// Bytes is the file that ParseProbe reads.
func (p *Probe) Bytes() ([]byte, error) {
	b, err := json.MarshalIndent(p, "", "  ")
	return append(b, '\n'), err
}

// Save writes the file, whole or not at all.
func (p *Probe) Save(path string) error {
	b, err := p.Bytes()
	if err != nil {
		return err
	}
	tmp := path + ".tmp"
	if err = os.WriteFile(tmp, b, 0o666); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		os.Remove(tmp)
	}
	return err
}

// Costs are those of a transport with what was measured in their place. ok is false when it was not.
func (p *Probe) Costs(transport string) (c comm.Costs, ok bool) {
	t, ok := p.Transports[transport]
	if !ok {
		return c, false
	}
	c = map[string]comm.Costs{"inproc": comm.InprocCosts, "shm": comm.ShmCosts, "tcp": comm.TCPCosts}[transport]
	return c.Measured(t.Alpha.Median, t.Message.Median, t.Beta.Median, t.Gamma.Median), true
}

// Machine is the machine that a simulated host is. A core is one of those that are all busy: a job fills its machine.
func (p *Probe) Machine() network.Machine {
	return network.Machine{Cores: p.Cores, FLOPS: p.FLOPSAll.Median / float64(p.Cores), Memory: p.Memory.Median,
		MemoryAll: max(p.Memory.Median, p.MemoryAll.Median), Cache: p.Cache, RAM: p.RAM}
}

// Calibrate gives a network's hosts this machine, and its messages what TCP's cost here, where the network says nothing itself.
func (p *Probe) Calibrate(n *network.Network) {
	n.Calibrate(p.Machine())
	t := p.Transports["tcp"]
	if t.Send > 0 || t.Receive > 0 {
		n.CalibrateMessages(network.Messages{Send: time.Duration(1e9 * t.Send), Receive: time.Duration(1e9 * t.Receive), SendByte: t.SendByte, ReceiveByte: t.ReceiveByte})
	}
}
