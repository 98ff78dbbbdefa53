package data

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Source is a data set that Covey knows by name.
type Source struct {
	Name    string   // as Open and Download take it
	What    string   // one line for people
	Train   int      // training samples
	Test    int      // test samples
	Licence string   // as its publishers state it
	Mirrors []string // where to get it, in order of preference; none when it is made here
	Files   []File   // what to get
}

// File is one file of a source.
type File struct {
	Name   string
	Size   int64  // bytes
	SHA256 string // hexadecimal
}

// Sources lists the data sets that Covey knows.
func Sources() []Source {
	return []Source{
		{Name: "digits", What: "28x28 images of handwritten-like digits in 10 classes, made here; digits:train=N,test=N,seed=N sets numbers and seed",
			Train: 12000, Test: 2000, Licence: "Apache-2.0, as Covey"},
		{Name: "mnist", What: "28x28 images of handwritten digits in 10 classes (LeCun, Cortes and Burges)",
			Train: 60000, Test: 10000, Licence: "CC BY-SA 3.0, copyright Yann LeCun and Corinna Cortes",
			Mirrors: []string{"https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist"},
			Files: []File{
				{"train-images-idx3-ubyte.gz", 9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"},
				{"train-labels-idx1-ubyte.gz", 28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"},
				{"t10k-images-idx3-ubyte.gz", 1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"},
				{"t10k-labels-idx1-ubyte.gz", 4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"},
			}},
	}
}

// Progress says how far a download is.
type Progress struct {
	File   string
	Mirror string // "" when the file was there already
	Done   int64  // bytes of the file
	Total  int64
}

// Download gets files into the folder dir, which it makes, from the first mirror that gives them: the address of a file
// is mirror/name. A file is written as name.part, checked against its size and SHA-256, and only then given its name.
// A file that is there already is checked and kept; when it has other bytes, Download fails and does not touch it. What
// an interrupted call left in name.part is continued. Calls must not share a folder at the same time.
//
// Waiting ends with ctx and with client's own timeouts; nil means a client that waits 30 seconds for an answer and 15
// minutes for a file.
// progress, when not nil, is called from the calling goroutine after every piece.
func Download(ctx context.Context, client *http.Client, dir string, mirrors []string, files []File, progress func(Progress)) error {
	if client == nil {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.ResponseHeaderTimeout = 30 * time.Second
		defer transport.CloseIdleConnections()
		client = &http.Client{Transport: transport, Timeout: 15 * time.Minute}
	}
	if progress == nil {
		progress = func(Progress) {}
	}
	if len(mirrors) == 0 {
		return fmt.Errorf("download to %s: there is no mirror to get the files from", dir)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("download: %w", err)
	}
	for _, f := range files {
		path := filepath.Join(dir, f.Name)
		if _, err := os.Lstat(path); err == nil {
			if err := check(path, f); err != nil {
				return fmt.Errorf("%w: move it away, then download again", err)
			}
			progress(Progress{File: f.Name, Done: f.Size, Total: f.Size})
			continue
		}
		var failed []string
		done := false
		for _, m := range mirrors {
			err := fetch(ctx, client, path, strings.TrimSuffix(m, "/"), f, progress)
			if err == nil {
				done = true
				break
			}
			if ctx.Err() != nil {
				return fmt.Errorf("download %s: %w", f.Name, context.Cause(ctx))
			}
			failed = append(failed, err.Error())
		}
		if !done {
			return fmt.Errorf("download %s: no mirror gave it:\n  %s", f.Name, strings.Join(failed, "\n  "))
		}
	}
	return nil
}

// fetch gets one file from one mirror. When bytes kept from earlier turn out to spoil it, it begins again once.
func fetch(ctx context.Context, client *http.Client, path, mirror string, f File, progress func(Progress)) error {
	part := path + ".part"
	for {
		kept, err := pull(ctx, client, part, mirror, f, progress)
		if err != nil {
			return err
		}
		if err = check(part, f); err == nil {
			return os.Rename(part, path)
		}
		if e := os.Remove(part); e != nil {
			return e
		}
		if kept == 0 {
			return fmt.Errorf("%s: %w", mirror+"/"+f.Name, err)
		}
	}
}

// pull brings part to its full size and reports how many bytes of it were there before.
func pull(ctx context.Context, client *http.Client, part, mirror string, f File, progress func(Progress)) (kept int64, err error) {
	url := mirror + "/" + f.Name
	out, err := os.OpenFile(part, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if kept, err = out.Seek(0, io.SeekEnd); err != nil {
		return 0, err
	}
	if kept == f.Size {
		return kept, nil
	}
	if kept > f.Size {
		kept = 0
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	if kept > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", kept))
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err // names the address
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		kept = 0
	case http.StatusPartialContent:
		if !strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", kept)) {
			return 0, fmt.Errorf("%s: asked for bytes from %d and got %q", url, kept, resp.Header.Get("Content-Range"))
		}
	default:
		if resp.StatusCode == http.StatusRequestedRangeNotSatisfiable {
			err = out.Truncate(0) // so that the next try begins again
		}
		return 0, errors.Join(fmt.Errorf("%s: the server answers %s", url, resp.Status), err)
	}
	if err := out.Truncate(kept); err != nil {
		return 0, err
	}
	if _, err := out.Seek(kept, io.SeekStart); err != nil {
		return 0, err
	}
	done := kept
	body := io.LimitReader(resp.Body, f.Size-kept+1)
	for buf := make([]byte, 64<<10); ; {
		n, err := body.Read(buf)
		if _, werr := out.Write(buf[:n]); werr != nil {
			return 0, werr
		}
		done += int64(n)
		if done > f.Size {
			return 0, errors.Join(fmt.Errorf("%s: is longer than the %d bytes expected", url, f.Size), out.Truncate(0))
		}
		if n > 0 {
			progress(Progress{File: f.Name, Mirror: mirror, Done: done, Total: f.Size})
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return 0, fmt.Errorf("%s: ended after %d of %d bytes: %w", url, done, f.Size, err)
		}
	}
	if done < f.Size {
		return 0, fmt.Errorf("%s: ended after %d of %d bytes", url, done, f.Size)
	}
	return kept, out.Sync()
}

// check compares a file with what it should be.
func check(path string, f File) error {
	sum, size, err := fileSum(path)
	if err != nil {
		return err
	}
	if size != f.Size || sum != f.SHA256 {
		return bad(path, "is not the published file: it has %d bytes and SHA-256 %s, expected %d and %s", size, sum, f.Size, f.SHA256)
	}
	return nil
}

func fileSum(path string) (sum string, size int64, err error) {
	in, err := os.Open(path)
	if err != nil {
		return "", 0, &Error{File: path, Err: cause(err)}
	}
	defer in.Close()
	h := sha256.New()
	size, err = io.Copy(h, in)
	if err != nil {
		return "", 0, &Error{File: path, Err: cause(err)}
	}
	return hex.EncodeToString(h.Sum(nil)), size, nil
}
