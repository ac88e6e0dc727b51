package fleet

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/keyholed/keyhole/basestation/store"
)

// Limits of calls.
const (
	MaxBodyBytes = 32 << 10 // of a question or an answer
	MaxCalls     = 1024     // that one node answers at a time
	CallTimeout  = 5 * time.Second
	maxReason    = 200 // bytes of an error told to the caller
)

// Handler answers one kind of call. ctx ends with CallTimeout and with Run. What
// it returns as an error the caller reads as text.
type Handler func(ctx context.Context, from string, body []byte) ([]byte, error)

// calls is what a Fleet needs to answer.
type calls struct {
	mu       sync.Mutex
	handlers map[string]Handler // by kind
	busy     int
	running  sync.WaitGroup

	telling sync.Mutex // held while Config.Changed is called
}

// A question and its answer:
//
//	question   1 length of from | from: id of the node that asks | body
//	answer     1 code | body, or the reason in words
const (
	codeOK     = 0
	codeFailed = 1
	codeBusy   = 2
	codeKind   = 3
)

// Handle has calls of a kind ([a-z0-9_-]{1,32}) answered by h, each in a
// goroutine of its own. Call it before Run.
func (f *Fleet) Handle(kind string, h Handler) {
	if err := store.CheckName(kind); err != nil {
		panic("fleet: " + err.Error())
	}
	f.calls.mu.Lock()
	defer f.calls.mu.Unlock()
	f.calls.handlers[kind] = h
}

// Call asks another node and waits for its answer, for CallTimeout at most.
// Errors: ErrGone when it is not there, ErrBusy, ErrKind, the context's, or what
// its handler said.
func (f *Fleet) Call(ctx context.Context, node, kind string, body []byte) ([]byte, error) {
	question, err := f.question(kind, body)
	if err != nil {
		return nil, err
	}
	if err := (Node{ID: node}).check(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	answer, err := f.config.Store.Request(ctx, callSubject+"."+node+"."+kind, question)
	switch {
	case errors.Is(err, store.ErrNoResponder):
		return nil, fmt.Errorf("call %s of node %s: %w", kind, node, ErrGone)
	case err != nil:
		return nil, fmt.Errorf("call %s of node %s: %w", kind, node, err)
	}
	body, err = readAnswer(answer)
	if err != nil {
		return nil, fmt.Errorf("call %s of node %s: %w", kind, node, err)
	}
	return body, nil
}

// Send hands another node a message without waiting: it may get lost, and what
// its handler answers is thrown away.
func (f *Fleet) Send(node, kind string, body []byte) error {
	question, err := f.question(kind, body)
	if err != nil {
		return err
	}
	if err := (Node{ID: node}).check(); err != nil {
		return err
	}
	return f.config.Store.Publish(callSubject+"."+node+"."+kind, question)
}

// Tell sends to every other node, as Send does.
func (f *Fleet) Tell(kind string, body []byte) error {
	question, err := f.question(kind, body)
	if err != nil {
		return err
	}
	return f.config.Store.Publish(tellSubject+"."+kind, question)
}

func (f *Fleet) question(kind string, body []byte) ([]byte, error) {
	if err := store.CheckName(kind); err != nil {
		return nil, err
	}
	if len(body) > MaxBodyBytes {
		return nil, fmt.Errorf("call %s with %d bytes: more than %d", kind, len(body), MaxBodyBytes)
	}
	id := f.config.Self.ID
	q := append(make([]byte, 0, 1+len(id)+len(body)), byte(len(id)))
	return append(append(q, id...), body...), nil
}

func readQuestion(data []byte) (from string, body []byte, err error) {
	if len(data) < 1 || len(data) < 1+int(data[0]) {
		return "", nil, errors.New("question cut short")
	}
	end := 1 + int(data[0])
	from, body = string(data[1:end]), data[end:]
	if len(body) > MaxBodyBytes {
		return "", nil, fmt.Errorf("question of %d bytes", len(body))
	}
	return from, body, Node{ID: from}.check()
}

func readAnswer(data []byte) ([]byte, error) {
	if len(data) < 1 || len(data) > 1+MaxBodyBytes {
		return nil, fmt.Errorf("answer of %d bytes", len(data))
	}
	switch code, body := data[0], data[1:]; code {
	case codeOK:
		return body, nil
	case codeFailed:
		return nil, fmt.Errorf("it says: %.*s", maxReason, strings.ToValidUTF8(string(body), "?"))
	case codeBusy:
		return nil, ErrBusy
	case codeKind:
		return nil, ErrKind
	default:
		return nil, fmt.Errorf("answer with code %d", code)
	}
}

// serve answers one question. Too many at a time are told so instead of waiting.
func (f *Fleet) serve(ctx context.Context, subject string, data []byte, reply func([]byte)) {
	from, body, err := readQuestion(data)
	if err != nil {
		f.log.Warn("call of another node not understood", "error", err)
		return
	}
	told := strings.HasPrefix(subject, tellSubject+".")
	if told && from == f.config.Self.ID {
		return
	}
	kind := subject[strings.LastIndexByte(subject, '.')+1:]
	f.calls.mu.Lock()
	handler, busy := f.calls.handlers[kind], f.calls.busy >= MaxCalls
	if handler != nil && !busy {
		f.calls.busy++
		f.calls.running.Add(1)
	}
	f.calls.mu.Unlock()
	switch {
	case handler == nil:
		reply([]byte{codeKind})
	case busy:
		reply([]byte{codeBusy})
	default:
		go f.answer(ctx, handler, from, body, reply)
	}
}

func (f *Fleet) answer(ctx context.Context, handler Handler, from string, body []byte, reply func([]byte)) {
	defer func() {
		f.calls.mu.Lock()
		f.calls.busy--
		f.calls.mu.Unlock()
		f.calls.running.Done()
	}()
	ctx, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	answer, err := handler(ctx, from, body)
	switch {
	case err != nil:
		reason := err.Error()
		reply(append([]byte{codeFailed}, reason[:min(len(reason), maxReason)]...))
	case len(answer) > MaxBodyBytes:
		reply(append([]byte{codeFailed}, "the answer is too large"...))
	default:
		reply(append([]byte{codeOK}, answer...))
	}
}

// wait is for the handlers that still run; nothing new comes by then.
func (c *calls) wait() { c.running.Wait() }
