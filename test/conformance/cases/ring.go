// SPDX-License-Identifier: Apache-2.0

package cases

import (
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/conformance/suite"
)

// The parts of io_uring that x/sys/unix lacks.
const (
	sysRingSetup, sysRingEnter, sysRingRegister = 425, 426, 427

	opPollAdd, opSendmsg, opRecvmsg     = 6, 9, 10
	opRead, opWrite, opSend, opRecv     = 22, 23, 26, 27
	opSplice, opProvideBuffers          = 30, 31
	opShutdown, opSendZeroCopy          = 34, 47
	opAccept, opConnect                 = 13, 16
	enterGetEvents, enterExtArg         = 1, 8
	sqeBufferSelect, recvMultishot      = 1 << 5, 1 << 1
	cqeBuffer, cqeMore, cqeNotification = 1, 2, 8
)

type ringOffsets struct {
	head, tail, mask, entries, flags, dropped, array, _ uint32
	userAddr                                            uint64
}

type ringParams struct {
	sqEntries, cqEntries, flags, sqThreadCPU, sqThreadIdle, features, wqFD uint32
	_                                                                      [3]uint32
	sq, cq                                                                 ringOffsets
}

// An sqe is a submission, a cqe a completion.
type sqe struct {
	op       uint8
	flags    uint8
	ioprio   uint16
	fd       int32
	offset   uint64
	address  uint64
	length   uint32
	opFlags  uint32
	userData uint64
	bufGroup uint16
	_        uint16
	spliceFD int32
	_        [2]uint64
}

type cqe struct {
	userData uint64
	result   int32
	flags    uint32
}

// A ring is an io_uring for one goroutine, by its system calls.
type ring struct {
	t       *T
	fd      *Sock
	params  ringParams
	sq, cq  []byte
	sqes    []sqe
	pending uint32
}

// newRing makes a ring, or records why there is none, for example because an administrator has disabled it.
func newRing(t *T) *ring {
	r := &ring{t: t}
	made := suite.Call(sysRingSetup, 16, suite.Keep(t, &r.params))
	if made.Errno != 0 {
		t.See("io_uring_setup", made)
		return nil
	}
	r.fd = t.Own(made.N)
	p := &r.params
	r.sq = r.mmap(0, int(p.sq.array+p.sqEntries*4))
	r.cq = r.mmap(0x8000000, int(p.cq.completions())+int(p.cqEntries)*int(unsafe.Sizeof(cqe{})))
	entries := r.mmap(0x10000000, int(p.sqEntries)*int(unsafe.Sizeof(sqe{})))
	r.sqes = unsafe.Slice((*sqe)(unsafe.Pointer(&entries[0])), p.sqEntries)
	return r
}

func (r *ring) mmap(offset int64, size int) []byte {
	b, err := unix.Mmap(r.fd.FD, offset, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	r.t.Check(err, "map ring")
	r.t.Cleanup(func() { _ = unix.Munmap(b) })
	return b
}

func word(b []byte, at uint32) *uint32 { return (*uint32)(unsafe.Pointer(&b[at])) }

// submit queues e and submits it to the kernel.
func (r *ring) submit(e sqe) {
	tail := word(r.sq, r.params.sq.tail)
	i := *tail & *word(r.sq, r.params.sq.mask)
	r.sqes[i] = e
	*word(r.sq, r.params.sq.array+4*i) = i
	atomic.StoreUint32(tail, *tail+1)
	done := suite.Call(sysRingEnter, uintptr(r.fd.FD), 1, 0, 0, 0, 0)
	if done.Errno != 0 {
		r.t.Fail("io_uring_enter: %w", done.Errno)
	}
}

// wait returns the next completion; false if none comes in time.
func (r *ring) wait(timeout time.Duration) (cqe, bool) {
	end := time.Now().Add(r.t.Scaled(timeout))
	for {
		head := word(r.cq, r.params.cq.head)
		if *head != atomic.LoadUint32(word(r.cq, r.params.cq.tail)) {
			i := *head & *word(r.cq, r.params.cq.mask)
			c := *(*cqe)(unsafe.Pointer(&r.cq[uintptr(r.params.cq.completions())+uintptr(i)*unsafe.Sizeof(cqe{})]))
			atomic.StoreUint32(head, *head+1)
			return c, true
		}
		left := time.Until(end)
		if left <= 0 || r.t.Context.Err() != nil {
			return cqe{}, false
		}
		r.enter(left)
	}
}

// completions is the offset of the completions. The fields of the completion queue are in another order than
// those of the submission queue: "cqes" is the sixth.
func (o *ringOffsets) completions() uint32 { return o.dropped }

// enter waits for a completion.
func (r *ring) enter(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	arg := struct {
		sigmask        uint64
		sigmaskSize    uint32
		minWait        uint32
		timeoutAddress uint64
	}{timeoutAddress: uint64(suite.Keep(r.t, &ts))}
	suite.Call(sysRingEnter, uintptr(r.fd.FD), 0, 1, enterGetEvents|enterExtArg,
		suite.Keep(r.t, &arg), unsafe.Sizeof(arg))
}

// String is the result of a completion.
func (c cqe) String() string {
	out := fmt.Sprint(c.result)
	if c.result < 0 {
		out = suite.Errno(unix.Errno(-c.result))
	}
	if c.flags&cqeMore != 0 {
		out += " more"
	}
	if c.flags&cqeNotification != 0 {
		out += " notification"
	}
	return out
}

// unless returns the completion as text, if one came in time.
func (c cqe) unless(late bool) string {
	if late {
		return "blocks"
	}
	return c.String()
}

// events waits for the completion of a poll.
func (r *ring) events() string {
	c, ok := r.wait(time.Second)
	if !ok || c.result < 0 {
		return c.unless(!ok)
	}
	more := ""
	if c.flags&cqeMore != 0 {
		more = " more"
	}
	return suite.Events(uint32(c.result)) + more
}

// complete waits a second for the next completion and prints it.
func (r *ring) complete() string {
	c, ok := r.wait(time.Second)
	return c.unless(!ok)
}
