//! How a program hangs on a tracepoint.

/// Defines a program for tracepoints, whatever `fn(TracePointContext)` does.
///
/// It returns 1, which aya's own attribute can't: the kernel runs the programs of a tracepoint before it hands the
/// event to those who listen with perf, and the first 0 hides it from all of them (kernel/trace/trace_events.c,
/// perf_trace_run_bpf_submit).
macro_rules! tracepoint {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($context:ident) $body:block) => {
        $(#[$meta])*
        #[unsafe(no_mangle)]
        #[unsafe(link_section = "tracepoint")]
        $vis extern "C" fn $name(context: *mut ::core::ffi::c_void) -> u32 {
            #[inline(always)]
            fn body($context: ::aya_ebpf::programs::TracePointContext) $body
            body(::aya_ebpf::programs::TracePointContext::new(context));
            1
        }
    };
}

/// The same where a function begins (`uprobe`) or returns (`uretprobe`).
macro_rules! uprobe {
    ($(#[$meta:meta])* $section:literal $vis:vis fn $name:ident($context:ident) $body:block) => {
        $(#[$meta])*
        #[unsafe(no_mangle)]
        #[unsafe(link_section = $section)]
        $vis extern "C" fn $name($context: *mut ::core::ffi::c_void) -> u32 {
            $body
            0
        }
    };
}

/// The same for raw tracepoints, which nobody but BPF programs hangs on.
macro_rules! raw_tracepoint {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($context:ident) $body:block) => {
        $(#[$meta])*
        #[unsafe(no_mangle)]
        #[unsafe(link_section = "raw_tracepoint")]
        $vis extern "C" fn $name(context: *mut ::core::ffi::c_void) -> u32 {
            #[inline(always)]
            fn body($context: ::aya_ebpf::programs::RawTracePointContext) $body
            body(::aya_ebpf::programs::RawTracePointContext::new(context));
            0
        }
    };
}

/// The same for what sockets of a control group do. It returns 1: others' programs and the kernel go on.
macro_rules! cgroup {
    ($(#[$meta:meta])* $section:literal $vis:vis fn $name:ident($context:ident: $type:ty) $body:block) => {
        $(#[$meta])*
        #[unsafe(no_mangle)]
        #[unsafe(link_section = $section)]
        $vis extern "C" fn $name($context: *mut $type) -> u32 {
            $body
            1
        }
    };
}
