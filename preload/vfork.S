/*
 * vfork: the child runs in our frame and returns first, so nothing may be
 * wrapped around it. Streams return to TCP, the thread is marked, and control
 * goes to libc's vfork as if it had been called directly.
 */
	.text
	.globl	vfork
	.globl	__vfork
	.type	vfork, %function
	.type	__vfork, %function
#if defined(__x86_64__)
vfork:
__vfork:
	.cfi_startproc
	endbr64
	subq	$8, %rsp
	.cfi_adjust_cfa_offset 8
	call	fastsock_before_vfork
	addq	$8, %rsp
	.cfi_adjust_cfa_offset -8
	jmp	*%rax
	.cfi_endproc
#elif defined(__aarch64__)
vfork:
__vfork:
	.cfi_startproc
	stp	x29, x30, [sp, #-16]!
	bl	fastsock_before_vfork
	ldp	x29, x30, [sp], #16
	mov	x16, x0
	br	x16
	.cfi_endproc
#else
#error "vfork: this processor needs its own few lines here"
#endif
	.size	vfork, . - vfork
	.size	__vfork, . - __vfork
	.section .note.GNU-stack,"",%progbits
