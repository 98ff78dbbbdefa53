package fault

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/covey-ml/covey/spec"
)

func parseTime(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		if _, bare := strconv.ParseFloat(s, 64); bare == nil {
			return 0, fmt.Errorf("the time %s has no unit: write %ss or %sms", s, s, s)
		}
		return 0, fmt.Errorf("%q is not a time such as 12s, 50ms or 1m30s", s)
	}
	if d < 0 || d > maxTime {
		return 0, fmt.Errorf("the time %s: expected 0s to %s", s, printTime(maxTime))
	}
	return d, nil
}

// parsePercent reads 1% as 0.01, rounded once.
func parsePercent(s string) (float64, error) {
	num, ok := strings.CutSuffix(s, "%")
	if !ok {
		return 0, fmt.Errorf("%q is not a share of packets such as 1%%", s)
	}
	p, err := scaled(num, -2)
	if err != nil || !(p > 0 && p <= 1) {
		return 0, fmt.Errorf("%q is not a share of packets above 0%% and up to 100%%", s)
	}
	return p, nil
}

// rates are the units of bandwidth, the largest first.
var rates = []struct {
	name  string
	bits  float64
	shift int  // the power of ten
	bytes bool // in bytes: read, never printed
}{
	{"Gbit/s", 1e9, 9, false}, {"Mbit/s", 1e6, 6, false}, {"kbit/s", 1e3, 3, false}, {"GB/s", 8e9, 9, true}, {"MB/s", 8e6, 6, true},
	{"kB/s", 8e3, 3, true}, {"bit/s", 1, 0, false},
}

// parseRate reads 10Mbit/s, or 1.25MB/s, as bits a second.
func parseRate(s string) (float64, error) {
	for _, u := range rates {
		num, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		x, err := scaled(num, u.shift)
		if err != nil {
			break
		}
		if u.bytes {
			x *= 8
		}
		if x == 0 {
			return 0, fmt.Errorf("the bandwidth %s lets nothing through: write drop 100%%", s)
		}
		if !(x >= 1 && x <= maxRate) {
			return 0, fmt.Errorf("the bandwidth %s: expected 1bit/s to %s", s, printRate(maxRate))
		}
		return x, nil
	}
	if i := strings.IndexFunc(s, func(r rune) bool { return !strings.ContainsRune("0123456789.", r) }); i > 0 {
		names := make([]string, len(rates))
		for j, u := range rates {
			names[j] = u.name
		}
		if err := spec.OneOf("unit", s[i:], names...); err != nil {
			return 0, err
		}
	}
	return 0, fmt.Errorf("%q is not a bandwidth such as 10Mbit/s", s)
}

// scaled reads s times ten to the shift, rounded once.
func scaled(s string, shift int) (float64, error) {
	mantissa, exponent, some := strings.Cut(s, "e")
	if some {
		n, err := strconv.ParseInt(exponent, 10, 16)
		if err != nil {
			return 0, err
		}
		shift += int(n)
	}
	return parseFloat(mantissa + "e" + strconv.Itoa(shift))
}

// parseFloat reads a finite decimal number.
func parseFloat(s string) (float64, error) {
	x, err := strconv.ParseFloat(s, 64)
	if err == nil && (x-x != 0 || strings.ContainsAny(s, "xX_")) {
		err = fmt.Errorf("%q is not a number", s)
	}
	return x, err
}

func printNumber(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }

// printTime prints 1m where a Duration prints 1m0s.
func printTime(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// printPercent prints what parsePercent reads back to the same bits.
func printPercent(p float64) string {
	if s := printNumber(100 * p); percentIs(s, p) {
		return s + "%"
	}
	mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(p, 'e', -1, 64), "e")
	n, _ := strconv.Atoi(exponent)
	return mantissa + "e" + strconv.Itoa(n+2) + "%"
}

func percentIs(s string, p float64) bool {
	q, err := parsePercent(s + "%")
	return err == nil && q == p
}

// printRate prints bits a second in the largest unit in which the number is at least one and reads back the same.
func printRate(bits float64) string {
	for _, u := range rates {
		if u.bytes || bits < u.bits {
			continue
		}
		s := printNumber(bits/u.bits) + u.name
		if r, err := parseRate(s); err == nil && r == bits {
			return s
		}
	}
	return printNumber(bits) + "bit/s"
}
