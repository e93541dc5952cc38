//! Plain arithmetic, compiled for each kind of processor.

/// Compiles a function for the widest registers there are. Nothing is contracted or summed in another order, so all
/// of them give the same bits.
macro_rules! widest {
    ($(#[$about:meta])* pub fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block) => {
        $(#[$about])*
        #[allow(unsafe_code)]
        pub(crate) fn $name($($argument: $type),*) $(-> $result)? {
            #[inline(always)]
            fn portable($($argument: $type),*) $(-> $result)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
                fn avx512($($argument: $type),*) $(-> $result)? { portable($($argument),*) }
                #[target_feature(enable = "avx2")]
                fn avx2($($argument: $type),*) $(-> $result)? { portable($($argument),*) }
                use std::arch::is_x86_feature_detected as detected;
                if detected!("avx512f") && detected!("avx512bw") && detected!("avx512dq") && detected!("avx512vl") {
                    // SAFETY: this processor has what the function is compiled for.
                    return unsafe { avx512($($argument),*) };
                }
                if detected!("avx2") {
                    // SAFETY: as above.
                    return unsafe { avx2($($argument),*) };
                }
            }
            portable($($argument),*)
        }
    };
}

pub(crate) use widest;
