//go:build s3

package ckpt

import (
	"bytes"
	"cmp"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

func init() { drivers["s3"] = openS3 }

// partsMax is the most parts of an upload, of 5 MiB to 5 GiB (Amazon S3 User Guide, "Multipart upload limits").
const partsMax = 10000

// bucket is an object store that speaks the S3 protocol.
type bucket struct {
	flat
	core  minio.Core
	creds *credentials.Credentials
	name  string

	mu   sync.Mutex
	etag map[string][]string // by SHA-256 of what this process sent: the tags that a store may give it
}

// openS3 reads s3://BUCKET/PREFIX?endpoint=https://HOST:PORT&region=NAME. Credentials, and what the URL does not say, come
// from where Amazon's own tools have them: the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN,
// AWS_REGION, AWS_ENDPOINT_URL_S3), ~/.aws/credentials, or the machine's role.
func openS3(u *url.URL) (fsys, error) {
	q, err := parameters(u, "endpoint", "region")
	if err != nil {
		return nil, err
	}
	where := cmp.Or(q.Get("endpoint"), os.Getenv("AWS_ENDPOINT_URL_S3"), os.Getenv("AWS_ENDPOINT_URL"), "https://s3.amazonaws.com")
	e, err := endpoint(where)
	if err != nil {
		return nil, err
	}
	if e.Path != "" && e.Path != "/" {
		return nil, fmt.Errorf("endpoint %q: expected https://HOST, or https://HOST:PORT, with no path", where)
	}
	creds := credentials.NewChainCredentials([]credentials.Provider{&credentials.EnvAWS{}, &credentials.FileAWSCredentials{},
		&credentials.IAM{Client: client(3 * time.Second)}}) // which answers at once, or is not there
	c, err := minio.New(e.Host, &minio.Options{Creds: creds, Secure: e.Scheme == "https", Transport: bounded{client(requestTimeout)}, MaxRetries: attempts,
		Region: cmp.Or(q.Get("region"), os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION"))})
	if err != nil {
		return nil, err
	}
	c.SetAppInfo("covey", "1")
	return &bucket{core: minio.Core{Client: c}, creds: creds, name: u.Host, etag: map[string][]string{}}, nil
}

var (
	_ fsys    = (*bucket)(nil)
	_ checker = (*bucket)(nil)
	_ sweeper = (*bucket)(nil)
)

// fail says what was tried, and of the commonest trouble where to look.
func (b *bucket) fail(doing, name string, err error) error {
	r := minio.ToErrorResponse(err)
	switch {
	case r.Code == minio.NoSuchKey || r.Code == "NotFound":
		return &fs.PathError{Op: doing, Path: key(name), Err: fs.ErrNotExist}
	case r.Code == minio.NoSuchBucket:
		return fmt.Errorf("there is no bucket %s", b.name)
	case r.Code == minio.AccessDenied:
		if v, e := b.creds.GetWithContext(b.core.CredContext()); e == nil && v.SignerType.IsAnonymous() {
			return fmt.Errorf("%s %s: %w (no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)", doing, key(name), err)
		}
	}
	return fmt.Errorf("%s %s: %w", doing, key(name), err)
}

func (b *bucket) stat(name string) (minio.ObjectInfo, error) {
	info, err := b.core.StatObject(context.Background(), b.name, key(name), minio.StatObjectOptions{})
	if err != nil {
		return info, b.fail("open", name, err)
	}
	return info, nil
}

func (b *bucket) Exists(name string) (bool, error) {
	_, err := b.stat(name)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err == nil, err
	}
	r, err := b.core.ListObjectsV2(b.name, folderKey(name), "", "", "", 1)
	if err != nil {
		return false, b.fail("list", name, err)
	}
	return len(r.Contents) > 0, nil
}

func (b *bucket) List(dir string) ([]string, error) {
	prefix := folderKey(dir)
	var out []string
	err := b.each(prefix, false, func(o minio.ObjectInfo) error {
		if name := strings.TrimSuffix(strings.TrimPrefix(o.Key, prefix), "/"); name != "" {
			out = append(out, name)
		}
		return nil
	})
	slices.Sort(out)
	return slices.Compact(out), err
}

func (b *bucket) each(prefix string, all bool, f func(minio.ObjectInfo) error) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for o := range b.core.Client.ListObjects(ctx, b.name, minio.ListObjectsOptions{Prefix: prefix, Recursive: all}) {
		if o.Err != nil {
			return b.fail("list", prefix, o.Err)
		}
		if err := f(o); err != nil {
			return err
		}
	}
	return nil
}

func (b *bucket) RemoveAll(name string) error {
	keys := []string{key(name)}
	if err := b.each(folderKey(name), true, func(o minio.ObjectInfo) error { keys = append(keys, o.Key); return nil }); err != nil {
		return err
	}
	manifestFirst(keys, name)
	for _, k := range keys {
		if err := b.core.RemoveObject(context.Background(), b.name, k, minio.RemoveObjectOptions{}); err != nil {
			return b.fail("remove", k, err)
		}
	}
	return nil
}

// Sweep takes away the parts of uploads below dir that were never completed, which cost money and are in no list.
func (b *bucket) Sweep(dir string) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for u := range b.core.ListIncompleteUploads(ctx, b.name, folderKey(dir), true) {
		if u.Err != nil {
			return b.fail("list uploads to", dir, u.Err)
		}
		if err := b.core.AbortMultipartUpload(ctx, b.name, u.Key, u.UploadID); err != nil {
			return b.fail("end the upload to", u.Key, err)
		}
	}
	return nil
}

// Link has the store copy the object: nothing is sent, and each checkpoint has its own.
func (b *bucket) Link(from, to string) error {
	_, err := b.core.Client.CopyObject(context.Background(), minio.CopyDestOptions{Bucket: b.name, Object: key(to)},
		minio.CopySrcOptions{Bucket: b.name, Object: key(from)})
	if err != nil {
		return b.fail("copy", from, err)
	}
	return nil
}

// Check compares size and entity tag. A tag is the MD5 of an object sent, or copied, in one piece, and that of its parts'
// MD5s of one sent in parts; where it is neither (some encryptions), or another process sent the object, it tells nothing.
func (b *bucket) Check(name string, want FileInfo) error {
	info, err := b.stat(name)
	if err != nil {
		return err
	}
	if info.Size != want.Size {
		return want.holds(filepath.Base(name), info.Size, nil)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if slices.Contains(b.etag[want.SHA256], strings.Trim(info.ETag, `"`)) {
		return nil
	}
	return errCannotCheck
}

func (b *bucket) Create(name string, want FileInfo) (file, error) {
	return &upload{b: b, key: key(name), want: want, part: partFor(want.Size), whole: md5.New(), parts: md5.New()}, nil
}

// partFor is the size of the parts of an upload.
func partFor(size int64) int {
	return int(max(partSize, (size/partsMax+1+(1<<20)-1)&^(1<<20-1)))
}

// upload collects a part and sends it. What is small goes as one object, when it is synced.
type upload struct {
	b     *bucket
	key   string
	want  FileInfo
	part  int
	buf   []byte
	id    string
	sent  []minio.CompletePart
	n     int64
	whole hash.Hash // MD5 of all
	parts hash.Hash // MD5 of the parts' MD5s
	done  bool
}

func (u *upload) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		if len(u.buf) == u.part {
			if err := u.flush(); err != nil {
				return n, err
			}
		}
		if u.buf == nil {
			u.buf = make([]byte, 0, min(int64(u.part), max(u.want.Size, 1)))
		}
		k := min(len(p), u.part-len(u.buf))
		u.buf = append(u.buf, p[:k]...)
		n, p = n+k, p[k:]
	}
	u.n += int64(n)
	return n, nil
}

// sums are what a store holds a body against.
func (u *upload) sums() (md5Base64, sha256Hex string) {
	m, s := md5.Sum(u.buf), sha256.Sum256(u.buf)
	u.whole.Write(u.buf)
	u.parts.Write(m[:])
	return base64.StdEncoding.EncodeToString(m[:]), hex.EncodeToString(s[:])
}

func (u *upload) flush() (err error) {
	ctx := context.Background()
	if u.id == "" {
		if u.id, err = u.b.core.NewMultipartUpload(ctx, u.b.name, u.key, minio.PutObjectOptions{}); err != nil {
			return u.b.fail("begin the upload to", u.key, err)
		}
	}
	m, s := u.sums()
	p, err := u.b.core.PutObjectPart(ctx, u.b.name, u.key, u.id, len(u.sent)+1, bytes.NewReader(u.buf), int64(len(u.buf)),
		minio.PutObjectPartOptions{Md5Base64: m, Sha256Hex: s})
	if err != nil {
		return u.b.fail(fmt.Sprintf("send part %d of", len(u.sent)+1), u.key, err)
	}
	u.sent = append(u.sent, minio.CompletePart{PartNumber: p.PartNumber, ETag: p.ETag})
	u.buf = u.buf[:0]
	return nil
}

// Sync makes the object: it is there, with all its content, from then on.
func (u *upload) Sync() error {
	if u.n != u.want.Size {
		return fmt.Errorf("%s: %d bytes were written, %d announced", u.key, u.n, u.want.Size)
	}
	ctx := context.Background()
	if u.id == "" {
		m, s := u.sums()
		if _, err := u.b.core.PutObject(ctx, u.b.name, u.key, bytes.NewReader(u.buf), int64(len(u.buf)), m, s, minio.PutObjectOptions{}); err != nil {
			return u.b.fail("send", u.key, err)
		}
	} else {
		if err := u.flush(); err != nil {
			return err
		}
		if _, err := u.b.core.CompleteMultipartUpload(ctx, u.b.name, u.key, u.id, u.sent, minio.PutObjectOptions{}); err != nil {
			return u.b.fail("end the upload to", u.key, err)
		}
	}
	u.done = true
	tags := []string{hex.EncodeToString(u.whole.Sum(nil))}
	if n := len(u.sent); n > 0 {
		tags = append(tags, fmt.Sprintf("%x-%d", u.parts.Sum(nil), n))
	}
	u.b.mu.Lock()
	defer u.b.mu.Unlock()
	u.b.etag[u.want.SHA256] = tags
	return nil
}

func (u *upload) Close() error {
	if u.id == "" || u.done {
		return nil
	}
	if err := u.b.core.AbortMultipartUpload(context.Background(), u.b.name, u.key, u.id); err != nil {
		return u.b.fail("give up the upload to", u.key, err)
	}
	return nil
}

func (b *bucket) Open(name string) (source, error) {
	info, err := b.stat(name)
	if err != nil {
		return nil, err
	}
	return &object{ranged: b, name: name, version: info.ETag, size: info.Size}, nil
}

func (b *bucket) again(err error) bool { return minio.ToErrorResponse(err).StatusCode < 400 }

func (b *bucket) fetch(name, version string, p []byte, off int64) error {
	var opts minio.GetObjectOptions
	if err := errors.Join(opts.SetRange(off, off+int64(len(p))-1), opts.SetMatchETag(version)); err != nil {
		return err
	}
	body, _, _, err := b.core.GetObject(context.Background(), b.name, key(name), opts)
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = io.ReadFull(body, p)
	return err
}
