package data

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// Error says that data is bad or cannot be read: which file, where in it, what is wrong and what would be right.
// A choice that is wrong whatever the data holds (an unknown format, a negative fraction) is a plain error instead.
type Error struct {
	File   string // path as it was given, or what a reader was called
	Line   int    // text: line from 1; 0 where there is none
	Column string // CSV: name or number of the column; "" where there is none
	Binary bool   // Offset holds a position
	Offset int64  // binary: byte from 0, after unpacking
	What   string // what is wrong and what is right
	Err    error  // what the system said, or nil
}

// Error prints each fact once: file, place, what, cause.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ", line %d", e.Line)
	}
	if e.Binary {
		fmt.Fprintf(&b, ", byte %d", e.Offset)
	}
	if e.Column != "" {
		fmt.Fprintf(&b, ", column %q", e.Column)
	}
	b.WriteString(": ")
	b.WriteString(e.What)
	switch {
	case e.Err == nil || e.What != "" && errors.Is(e.Err, fs.ErrNotExist): // What has said it
	case e.What == "":
		b.WriteString(e.Err.Error())
	default:
		b.WriteString(": " + e.Err.Error())
	}
	return b.String()
}

// Unwrap returns the cause, so that errors.Is finds fs.ErrNotExist and the like.
func (e *Error) Unwrap() error { return e.Err }

func bad(file string, format string, args ...any) *Error {
	return &Error{File: file, What: fmt.Sprintf(format, args...)}
}

func badLine(file string, line int, format string, args ...any) *Error {
	return &Error{File: file, Line: line, What: fmt.Sprintf(format, args...)}
}

func badByte(file string, offset int64, format string, args ...any) *Error {
	return &Error{File: file, Binary: true, Offset: offset, What: fmt.Sprintf(format, args...)}
}

// located reports whether err already says which file it is about.
func located(err error) bool {
	var e *Error
	return errors.As(err, &e)
}
