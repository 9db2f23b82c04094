// objc_msgSend: finds the method and jumps to it, with every argument register as the caller left
// it. The frame is gone before the jump, so the method sees the caller's stack arguments, returns
// to the caller, and may throw through. A message to nil does nothing and returns zeros.

#if defined(__x86_64__)

// Structures larger than 16 bytes are returned through a pointer in rdi, which shifts the receiver:
// objc_msgSend_stret.
asm(R"(
.text
.macro GANDER_SEND name, receiver, selector
.globl \name
.type \name, @function
\name:
    testq \receiver, \receiver
    je 1f
    pushq %rbp
    movq %rsp, %rbp
    subq $192, %rsp
    movq %rdi, 0(%rsp)
    movq %rsi, 8(%rsp)
    movq %rdx, 16(%rsp)
    movq %rcx, 24(%rsp)
    movq %r8, 32(%rsp)
    movq %r9, 40(%rsp)
    movq %rax, 48(%rsp)
    movups %xmm0, 64(%rsp)
    movups %xmm1, 80(%rsp)
    movups %xmm2, 96(%rsp)
    movups %xmm3, 112(%rsp)
    movups %xmm4, 128(%rsp)
    movups %xmm5, 144(%rsp)
    movups %xmm6, 160(%rsp)
    movups %xmm7, 176(%rsp)
    movq \receiver, %r10
    movq \selector, %rsi
    movq %r10, %rdi
    call gander_standin_find_method@PLT
    movq %rax, %r11
    movq 0(%rsp), %rdi
    movq 8(%rsp), %rsi
    movq 16(%rsp), %rdx
    movq 24(%rsp), %rcx
    movq 32(%rsp), %r8
    movq 40(%rsp), %r9
    movq 48(%rsp), %rax
    movups 64(%rsp), %xmm0
    movups 80(%rsp), %xmm1
    movups 96(%rsp), %xmm2
    movups 112(%rsp), %xmm3
    movups 128(%rsp), %xmm4
    movups 144(%rsp), %xmm5
    movups 160(%rsp), %xmm6
    movups 176(%rsp), %xmm7
    leave
    jmp *%r11
1:  xorl %eax, %eax
    xorl %edx, %edx
    pxor %xmm0, %xmm0
    pxor %xmm1, %xmm1
    ret
.size \name, . - \name
.endm
GANDER_SEND objc_msgSend, %rdi, %rsi
GANDER_SEND objc_msgSend_fpret, %rdi, %rsi
GANDER_SEND objc_msgSend_stret, %rsi, %rdx
.section .note.GNU-stack,"",@progbits
.text
)");

#elif defined(__aarch64__)

// Large structures are returned through x8, so that one entry serves all.
asm(R"(
.text
.globl objc_msgSend
.type objc_msgSend, %function
objc_msgSend:
    cbz x0, 1f
    stp x29, x30, [sp, #-224]!
    mov x29, sp
    stp x0, x1, [sp, #16]
    stp x2, x3, [sp, #32]
    stp x4, x5, [sp, #48]
    stp x6, x7, [sp, #64]
    str x8, [sp, #80]
    stp q0, q1, [sp, #96]
    stp q2, q3, [sp, #128]
    stp q4, q5, [sp, #160]
    stp q6, q7, [sp, #192]
    bl gander_standin_find_method
    mov x16, x0
    ldp x0, x1, [sp, #16]
    ldp x2, x3, [sp, #32]
    ldp x4, x5, [sp, #48]
    ldp x6, x7, [sp, #64]
    ldr x8, [sp, #80]
    ldp q0, q1, [sp, #96]
    ldp q2, q3, [sp, #128]
    ldp q4, q5, [sp, #160]
    ldp q6, q7, [sp, #192]
    ldp x29, x30, [sp], #224
    br x16
1:  mov x1, xzr
    movi d0, #0
    movi d1, #0
    movi d2, #0
    movi d3, #0
    ret
.size objc_msgSend, . - objc_msgSend
.section .note.GNU-stack,"",%progbits
.text
)");

#else
#error "objc_msgSend is written for x86-64 and aarch64"
#endif
