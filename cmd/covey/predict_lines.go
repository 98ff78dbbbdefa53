package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"io"
	"strconv"

	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/vec"
)

// writePredictions writes one prediction a line.
func writePredictions(ctx context.Context, l *learned, s subject, format string, truth bool, w io.Writer) error {
	line := l.textLine
	switch format {
	case formatCSV:
		return l.writeCSV(ctx, s, truth, w)
	case formatJSON:
		line = l.jsonLine
	}
	var buf []byte
	return l.each(ctx, s, func(i int, b *data.Batch, k int, out []float32) error {
		var label []float32
		if truth {
			label = l.truth(b, k)
		}
		buf = append(line(buf[:0], i, out, label), '\n')
		_, err := w.Write(buf)
		return err
	})
}

// truth is sample k's class number, or its targets.
func (l *learned) truth(b *data.Batch, k int) []float32 {
	if l.schema.Task == data.Classification {
		return []float32{float32(b.Class[k])}
	}
	t := l.schema.Targets
	return b.Y[k*t : (k+1)*t]
}

func number(b []byte, v float32) []byte { return strconv.AppendFloat(b, float64(v), 'g', -1, 32) }

// textLine is the class, or the values with blanks between them.
func (l *learned) textLine(b []byte, _ int, out, _ []float32) []byte {
	if l.schema.Task == data.Classification {
		return append(b, l.class(vec.ArgMax(out))...)
	}
	for t, v := range out {
		if t > 0 {
			b = append(b, ' ')
		}
		b = number(b, v)
	}
	return b
}

// jsonLine is one object: {"sample":0,"class":"7","probability":{"0":0.1,...},"truth":"7"} or, for regression,
// {"sample":0,"prediction":{"price":1.5},"truth":{"price":1}}.
func (l *learned) jsonLine(b []byte, i int, out, truth []float32) []byte {
	b = append(b, `{"sample":`...)
	b = strconv.AppendInt(b, int64(i), 10)
	if l.schema.Task == data.Classification {
		b = append(b, `,"class":`...)
		b = appendString(b, l.class(vec.ArgMax(out)))
		b = append(b, `,"probability":`...)
		b = l.object(b, out, l.class)
		if truth != nil {
			b = append(b, `,"truth":`...)
			b = appendString(b, l.class(int(truth[0])))
		}
		return append(b, '}')
	}
	b = append(b, `,"prediction":`...)
	b = l.object(b, out, l.target)
	if truth != nil {
		b = append(b, `,"truth":`...)
		b = l.object(b, truth, l.target)
	}
	return append(b, '}')
}

func (l *learned) object(b []byte, values []float32, name func(int) string) []byte {
	b = append(b, '{')
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, name(i))
		b = append(b, ':')
		if v-v != 0 { // JSON has no infinite numbers
			b = append(b, "null"...)
			continue
		}
		b = number(b, v)
	}
	return append(b, '}')
}

func appendString(b []byte, s string) []byte {
	q, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings always have a JSON form
	}
	return append(b, q...)
}

func (l *learned) writeCSV(ctx context.Context, s subject, truth bool, out io.Writer) error {
	w := csv.NewWriter(out)
	classes := l.schema.Task == data.Classification
	head := []string{"sample"}
	switch {
	case classes:
		head = append(head, "class")
		for c := range l.predict.Outputs() {
			head = append(head, "p_"+l.class(c))
		}
		if truth {
			head = append(head, "truth")
		}
	default:
		for t := range l.schema.Targets {
			head = append(head, l.target(t))
		}
		for t := range l.schema.Targets {
			if truth {
				head = append(head, "truth_"+l.target(t))
			}
		}
	}
	if err := w.Write(head); err != nil {
		return err
	}
	row := make([]string, 0, len(head))
	err := l.each(ctx, s, func(i int, b *data.Batch, k int, out []float32) error {
		row = append(row[:0], strconv.Itoa(i))
		if classes {
			row = append(row, l.class(vec.ArgMax(out)))
		}
		for _, v := range out {
			row = append(row, string(number(nil, v)))
		}
		if truth {
			for _, v := range l.truth(b, k) {
				if classes {
					row = append(row, l.class(int(v)))
				} else {
					row = append(row, string(number(nil, v)))
				}
			}
		}
		return w.Write(row)
	})
	if err != nil {
		return err
	}
	w.Flush()
	return w.Error()
}
