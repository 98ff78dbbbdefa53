package network

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/covey-ml/covey/spec"
)

type unitOf struct {
	name string
	size float64
}

// kind is a physical quantity: what it is called, its units and an example.
type kind struct {
	what, example string
	units         []unitOf
}

var (
	bandwidths = kind{"bandwidth", "100Mbit/s or 12.5MB/s", []unitOf{
		{"Tbit/s", 1e12 / 8}, {"Gbit/s", 1e9 / 8}, {"Mbit/s", 1e6 / 8}, {"kbit/s", 1e3 / 8}, {"bit/s", 1. / 8},
		{"TB/s", 1e12}, {"GB/s", 1e9}, {"MB/s", 1e6}, {"kB/s", 1e3}, {"B/s", 1},
		{"GiB/s", 1 << 30}, {"MiB/s", 1 << 20}, {"KiB/s", 1 << 10}}}
	flops = kind{"speed", "60GFLOP/s", []unitOf{
		{"PFLOP/s", 1e15}, {"TFLOP/s", 1e12}, {"GFLOP/s", 1e9}, {"MFLOP/s", 1e6}, {"kFLOP/s", 1e3}, {"FLOP/s", 1}}}
	times = kind{"time", "50us or 20ms", []unitOf{
		{"h", 3600}, {"m", 60}, {"s", 1}, {"ms", 1e-3}, {"us", 1e-6}, {"µs", 1e-6}, {"ns", 1e-9}}}
)

// parse reads a number and its unit. The number is not negative.
func (k kind) parse(text string) (float64, error) {
	text = strings.TrimSpace(text)
	bare, negative := strings.CutPrefix(text, "-")
	end := 0
	for end < len(bare) && (bare[end] >= '0' && bare[end] <= '9' || bare[end] == '.') {
		end++
	}
	name := strings.TrimSpace(bare[end:])
	x, err := strconv.ParseFloat(bare[:end], 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a %s such as %s", text, k.what, k.example)
	}
	if negative {
		return 0, fmt.Errorf("%s is negative, expected a %s such as %s", text, k.what, k.example)
	}
	var names []string
	for _, u := range k.units {
		if u.name == name {
			return x * u.size, nil
		}
		names = append(names, u.name)
	}
	if name == "" {
		return 0, fmt.Errorf("%s has no unit, expected a %s such as %s", text, k.what, k.example)
	}
	for _, other := range []struct{ end, ours string }{{"bps", "bit/s"}, {"b/s", "bit/s"}, {"Bps", "B/s"}} {
		if prefix, ok := strings.CutSuffix(name, other.end); ok && slices.Contains(names, prefix+other.ours) {
			return 0, fmt.Errorf("unknown unit of a %s %q: did you mean %q?", k.what, name, prefix+other.ours)
		}
	}
	return 0, spec.OneOf("unit of a "+k.what, name, names...)
}

// print writes with the largest unit that leaves a number of at least 1, of the first units that belong together.
func (k kind) print(x float64, first int) string {
	for i, u := range k.units[:first] {
		if x >= u.size || i == first-1 {
			return strconv.FormatFloat(x/u.size, 'g', 4, 64) + u.name
		}
	}
	return ""
}

func printBandwidth(x float64) string { return bandwidths.print(x, 5) }
func printFLOPS(x float64) string     { return flops.print(x, len(flops.units)) }
func printMemory(x float64) string    { return kind{units: bandwidths.units[5:10]}.print(x, 5) }

// parseBandwidth reads 100Mbit/s or 12.5MB/s into bytes a second.
func parseBandwidth(text string) (float64, error) { return positive(bandwidths, text) }

// parseFLOPS reads 60GFLOP/s.
func parseFLOPS(text string) (float64, error) { return positive(flops, text) }

func positive(k kind, text string) (float64, error) {
	x, err := k.parse(text)
	switch {
	case err != nil:
		return 0, err
	case x <= 0:
		return 0, fmt.Errorf("%s is nothing, expected a %s such as %s", text, k.what, k.example)
	case x < 1e-3 || x > 1e21:
		return 0, fmt.Errorf("%s is beyond what a %s can be, such as %s", text, k.what, k.example)
	}
	return x, nil
}

// maxTime bounds times, so that sums of them stay far from overflow.
const maxTime = 10000 * time.Hour

// parseTime reads 50us, 20ms or 1m30s.
func parseTime(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		x, err := times.parse(text)
		if err != nil {
			return 0, err
		}
		if x >= maxTime.Seconds() { // beyond what a Duration holds
			return 0, fmt.Errorf("%s is over %v", text, maxTime)
		}
		d = time.Duration(math.Floor(float64(x*1e9) + 0.5))
	}
	if d > maxTime {
		return 0, fmt.Errorf("%s is over %v", text, maxTime)
	}
	return d, nil
}

// parseSeconds reads a time that may be below a nanosecond, up to a second.
func parseSeconds(text string) (float64, error) {
	x, err := times.parse(text)
	if err != nil {
		return 0, err
	}
	if x > 1 {
		return 0, fmt.Errorf("%s is over 1s", text)
	}
	return x, nil
}

// parseShare reads a probability, 0.01% or 0.0001.
func parseShare(text string) (float64, error) {
	num, percent := strings.CutSuffix(strings.TrimSpace(text), "%")
	x, err := strconv.ParseFloat(strings.TrimSpace(num), 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a probability such as 0.01%% or 0.0001", text)
	}
	if percent {
		x /= 100
	}
	if !(x >= 0 && x < 1) {
		return 0, fmt.Errorf("%s is not a probability from 0 up to, but not, 1 (100%%)", text)
	}
	return x, nil
}

// parseFactor reads a positive number.
func parseFactor(text string) (float64, error) {
	x, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil || !(x >= 1e-6 && x <= 1e6) {
		return 0, fmt.Errorf("%q is not a number above 0 such as 1.5", text)
	}
	return x, nil
}

// parseCount reads a whole number from 1 to what a network may hold.
func parseCount(text string) (int, error) {
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		return 0, fmt.Errorf("%q is not a whole number", text)
	}
	if n < 1 || n > maxHosts {
		return 0, fmt.Errorf("%d is not from 1 to %d", n, maxHosts)
	}
	return n, nil
}

// parseSize reads 64KiB or 16GiB.
func parseSize(text string) (int64, error) {
	b, err := spec.ParseBytes(text)
	return int64(b), err
}

// parseDuplex reads full or half into whether it is half.
func parseDuplex(text string) (bool, error) {
	return text == "half", spec.OneOf("duplex", text, "full", "half")
}
