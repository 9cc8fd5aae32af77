; ModuleID = "dense"
target triple = "x86_64-unknown-linux-gnu"
target datalayout = ""

define internal void @"task"(ptr noundef %".1", i64 noundef %".2", i64 noundef %".3")
{
entry:
  %".5" = getelementptr inbounds ptr, ptr %".1", i64 2
  %".6" = load ptr, ptr %".5", align 8
  %".7" = getelementptr inbounds ptr, ptr %".1", i64 3
  %".8" = load ptr, ptr %".7", align 8
  %".9" = getelementptr inbounds ptr, ptr %".1", i64 4
  %".10" = load ptr, ptr %".9", align 8
  %".11" = getelementptr inbounds ptr, ptr %".1", i64 5
  %".12" = load ptr, ptr %".11", align 8
  %".13" = getelementptr inbounds ptr, ptr %".1", i64 6
  %".14" = load ptr, ptr %".13", align 8
  %".15" = getelementptr inbounds ptr, ptr %".1", i64 7
  %".16" = load ptr, ptr %".15", align 8
  %".17" = getelementptr inbounds ptr, ptr %".1", i64 8
  %".18" = load ptr, ptr %".17", align 8
  %".19" = getelementptr inbounds ptr, ptr %".1", i64 9
  %".20" = load ptr, ptr %".19", align 8
  %".21" = getelementptr inbounds ptr, ptr %".1", i64 10
  %".22" = load ptr, ptr %".21", align 8
  %".23" = getelementptr inbounds ptr, ptr %".1", i64 11
  %".24" = load ptr, ptr %".23", align 8
  %".25" = getelementptr inbounds i64, ptr %".1", i64 12
  %".26" = load i64, ptr %".25", align 8
  %".27" = getelementptr inbounds i64, ptr %".1", i64 13
  %".28" = load i64, ptr %".27", align 8
  %".29" = getelementptr inbounds i64, ptr %".1", i64 14
  %".30" = load i64, ptr %".29", align 8
  %".31" = getelementptr inbounds i64, ptr %".1", i64 15
  %".32" = load i64, ptr %".31", align 8
  %".33" = getelementptr inbounds i64, ptr %".1", i64 16
  %".34" = load i64, ptr %".33", align 8
  %".35" = getelementptr inbounds i64, ptr %".1", i64 17
  %".36" = load i64, ptr %".35", align 8
  %".37" = getelementptr inbounds i64, ptr %".1", i64 18
  %".38" = load i64, ptr %".37", align 8
  %".39" = getelementptr inbounds i64, ptr %".1", i64 19
  %".40" = load i64, ptr %".39", align 8
  %".41" = udiv i64 %".2", %".40"
  %".42" = mul i64 %".41", %".40"
  %".43" = sub i64 %".2", %".42"
  %".44" = udiv i64 %".41", %".38"
  %".45" = mul i64 %".44", %".38"
  %".46" = sub i64 %".41", %".45"
  %".47" = udiv i64 %".44", %".36"
  %".48" = mul i64 %".47", %".36"
  %".49" = sub i64 %".44", %".48"
  %".50" = mul i64 %".46", 16
  %".51" = add i64 %".50", 16
  %".52" = icmp slt i64 %".51", %".26"
  %".53" = select  i1 %".52", i64 %".51", i64 %".26"
  %".54" = add i64 %".43", 1
  %".55" = icmp slt i64 %".54", 2
  %".56" = select  i1 %".55", i64 %".54", i64 2
  %".57" = mul i64 %".47", %".30"
  %".58" = mul i64 %".49", 3
  %".59" = add i64 %".57", %".58"
  %".60" = getelementptr inbounds float, ptr %".6", i64 %".59"
  %".61" = mul i64 %".47", %".32"
  %".62" = mul i64 %".49", 9
  %".63" = add i64 %".61", %".62"
  %".64" = mul i64 %".47", %".36"
  %".65" = add i64 %".64", %".49"
  %".66" = mul i64 %".65", 9
  %".67" = mul i64 %".49", 2
  %".68" = alloca [128 x float], align 64
  br label %"loop"
loop:
  %".70" = phi  i64 [%".43", %"entry"], [%".261", %"after.1"]
  %".71" = icmp slt i64 %".70", %".56"
  br i1 %".71", label %"body", label %"after"
body:
  br label %"loop.1"
after:
  ret void
loop.1:
  %".74" = phi  i64 [0, %"body"], [%".259", %"after.2"]
  %".75" = icmp slt i64 %".74", %".34"
  br i1 %".75", label %"body.1", label %"after.1"
body.1:
  %".77" = add i64 %".74", 1
  %".78" = icmp slt i64 %".77", %".34"
  %".79" = select  i1 %".78", i64 %".77", i64 %".34"
  br label %"loop.2"
after.1:
  %".261" = add i64 %".70", 1
  br label %"loop"
loop.2:
  %".81" = phi  i64 [0, %"body.1"], [%".257", %"after.3"]
  %".82" = icmp slt i64 %".81", 3
  br i1 %".82", label %"body.2", label %"after.2"
body.2:
  %".84" = add i64 %".81", 2
  %".85" = icmp slt i64 %".84", 3
  %".86" = select  i1 %".85", i64 %".84", i64 3
  %".87" = icmp eq i64 %".74", 0
  %".88" = icmp eq i64 %".81", 0
  %".89" = and i1 %".87", %".88"
  %".90" = icmp eq i64 %".79", %".34"
  %".91" = icmp eq i64 %".86", 3
  %".92" = and i1 %".90", %".91"
  br label %"loop.3"
after.2:
  %".259" = add i64 %".74", 1
  br label %"loop.1"
loop.3:
  %".94" = phi  i64 [%".50", %"body.2"], [%".255", %"after.7"]
  %".95" = icmp slt i64 %".94", %".53"
  br i1 %".95", label %"body.3", label %"after.3"
body.3:
  %".97" = sub i64 %".94", %".50"
  %".98" = mul i64 %".97", 8
  br i1 %".89", label %"then", label %"else"
after.3:
  %".257" = add i64 %".81", 2
  br label %"loop.2"
then:
  br label %"after.4"
else:
  %".101" = getelementptr inbounds float, ptr %".68", i64 %".98"
  %".102" = load <8 x float>, ptr %".101", align 4
  %".103" = add i64 %".98", 8
  %".104" = getelementptr inbounds float, ptr %".68", i64 %".103"
  %".105" = load <8 x float>, ptr %".104", align 4
  br label %"after.4"
after.4:
  %".107" = phi  <8 x float> [splat (float              0x0), %"then"], [%".102", %"else"]
  %".108" = phi  <8 x float> [splat (float              0x0), %"then"], [%".105", %"else"]
  %".109" = add i64 %".67", %".70"
  %".110" = mul i64 %".109", %".34"
  br label %"loop.4"
loop.4:
  %".112" = phi  i64 [%".74", %"after.4"], [%".156", %"after.6"]
  %".113" = phi  <8 x float> [%".107", %"after.4"], [%".137", %"after.6"]
  %".114" = phi  <8 x float> [%".108", %"after.4"], [%".138", %"after.6"]
  %".115" = icmp slt i64 %".112", %".79"
  br i1 %".115", label %"body.4", label %"after.5"
body.4:
  %".117" = mul i64 %".112", %".28"
  %".118" = add i64 %".117", %".94"
  %".119" = getelementptr inbounds i32, ptr %".14", i64 %".118"
  %".120" = load i32, ptr %".119", align 4
  %".121" = getelementptr inbounds i32, ptr %".119", i64 1
  %".122" = load i32, ptr %".121", align 4
  %".123" = icmp slt i32 %".120", 0
  %".124" = sext i32 %".120" to i64
  %".125" = getelementptr inbounds float, ptr %".60", i64 %".124"
  %".126" = select  i1 %".123", ptr %".8", ptr %".125"
  %".127" = icmp slt i32 %".122", 0
  %".128" = sext i32 %".122" to i64
  %".129" = getelementptr inbounds float, ptr %".60", i64 %".128"
  %".130" = select  i1 %".127", ptr %".8", ptr %".129"
  %".131" = add i64 %".110", %".112"
  %".132" = mul i64 %".131", 3
  %".133" = mul i64 %".132", 8
  %".134" = getelementptr inbounds float, ptr %".10", i64 %".133"
  br label %"loop.5"
after.5:
  br i1 %".92", label %"then.1", label %"else.1"
loop.5:
  %".136" = phi  i64 [%".81", %"body.4"], [%".154", %"body.5"]
  %".137" = phi  <8 x float> [%".113", %"body.4"], [%".148", %"body.5"]
  %".138" = phi  <8 x float> [%".114", %"body.4"], [%".153", %"body.5"]
  %".139" = icmp slt i64 %".136", %".86"
  br i1 %".139", label %"body.5", label %"after.6"
body.5:
  %".141" = mul i64 %".136", 8
  %".142" = getelementptr inbounds float, ptr %".134", i64 %".141"
  %".143" = load <8 x float>, ptr %".142", align 4
  %".144" = getelementptr inbounds float, ptr %".126", i64 %".136"
  %".145" = load float, ptr %".144", align 4
  %".146" = insertelement <8 x float> <float undef, float undef, float undef, float undef, float undef, float undef, float undef, float undef>, float %".145", i32 0
  %".147" = shufflevector <8 x float> %".146", <8 x float> <float undef, float undef, float undef, float undef, float undef, float undef, float undef, float undef>, <8 x i32> <i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0>
  %".148" = call <8 x float> @"llvm.fmuladd.v8f32"(<8 x float> %".147", <8 x float> %".143", <8 x float> %".137")
  %".149" = getelementptr inbounds float, ptr %".130", i64 %".136"
  %".150" = load float, ptr %".149", align 4
  %".151" = insertelement <8 x float> <float undef, float undef, float undef, float undef, float undef, float undef, float undef, float undef>, float %".150", i32 0
  %".152" = shufflevector <8 x float> %".151", <8 x float> <float undef, float undef, float undef, float undef, float undef, float undef, float undef, float undef>, <8 x i32> <i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0>
  %".153" = call <8 x float> @"llvm.fmuladd.v8f32"(<8 x float> %".152", <8 x float> %".143", <8 x float> %".138")
  %".154" = add i64 %".136", 1
  br label %"loop.5"
after.6:
  %".156" = add i64 %".112", 1
  br label %"loop.4"
then.1:
  %".159" = mul i64 %".70", 8
  %".160" = mul i64 %".67", 8
  %".161" = add i64 %".160", %".159"
  %".162" = getelementptr inbounds float, ptr %".18", i64 %".161"
  %".163" = load <8 x float>, ptr %".162", align 4
  %".164" = icmp eq i64 %".70", 1
  br i1 %".164", label %"then.2", label %"else.2"
else.1:
  %".249" = getelementptr inbounds float, ptr %".68", i64 %".98"
  store <8 x float> %".113", ptr %".249", align 4
  %".251" = add i64 %".98", 8
  %".252" = getelementptr inbounds float, ptr %".68", i64 %".251"
  store <8 x float> %".114", ptr %".252", align 4
  br label %"after.7"
after.7:
  %".255" = add i64 %".94", 2
  br label %"loop.3"
then.2:
  %".166" = icmp slt i64 %".94", %".53"
  br i1 %".166", label %"then.3", label %"after.9"
else.2:
  %".210" = icmp slt i64 %".94", %".53"
  br i1 %".210", label %"then.5", label %"after.11"
after.8:
  br label %"after.7"
then.3:
  %".168" = udiv i64 %".94", 1
  %".169" = sub i64 %".94", %".168"
  %".170" = getelementptr inbounds i32, ptr %".16", i64 %".168"
  %".171" = load i32, ptr %".170", align 4
  %".172" = sext i32 %".171" to i64
  %".173" = add i64 %".63", %".172"
  %".174" = add i64 %".173", %".159"
  %".175" = fadd <8 x float> %".113", %".163"
  %".176" = getelementptr inbounds float, ptr %".22", i64 %".174"
  %".177" = load <1 x float>, ptr %".176", align 4
  %".178" = shufflevector <1 x float> %".177", <1 x float> <float undef>, <8 x i32> <i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0>
  %".179" = shufflevector <8 x float> <float              0x0, float              0x0, float              0x0, float              0x0, float              0x0, float              0x0, float              0x0, float              0x0>, <8 x float> %".178", <8 x i32> <i32 8, i32 1, i32 2, i32 3, i32 4, i32 5, i32 6, i32 7>
  %".180" = fadd <8 x float> %".175", %".179"
  %".181" = fcmp olt <8 x float> %".180", splat (float              0x0)
  %".182" = select  <8 x i1> %".181", <8 x float> splat (float              0x0), <8 x float> %".180"
  %".183" = getelementptr inbounds float, ptr %".12", i64 %".174"
  %".184" = shufflevector <8 x float> %".182", <8 x float> <float undef, float undef, float undef, float undef, float undef, float undef, float undef, float undef>, <1 x i32> <i32 0>
  store <1 x float> %".184", ptr %".183", align 4
  br label %"after.9"
after.9:
  %".187" = add i64 %".94", 1
  %".188" = icmp slt i64 %".187", %".53"
  br i1 %".188", label %"then.4", label %"after.10"
then.4:
  %".190" = udiv i64 %".187", 1
  %".191" = sub i64 %".187", %".190"
  %".192" = getelementptr inbounds i32, ptr %".16", i64 %".190"
  %".193" = load i32, ptr %".192", align 4
  %".194" = sext i32 %".193" to i64
  %".195" = add i64 %".63", %".194"
  %".196" = add i64 %".195", %".159"
  %".197" = fadd <8 x float> %".114", %".163"
  %".198" = getelementptr inbounds float, ptr %".22", i64 %".196"
  %".199" = load <1 x float>, ptr %".198", align 4
  %".200" = shufflevector <1 x float> %".199", <1 x float> <float undef>, <8 x i32> <i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0>
  %".201" = shufflevector <8 x float> <float              0x0, float              0x0, float              0x0, float              0x0, float              0x0, float              0x0, float              0x0, float              0x0>, <8 x float> %".200", <8 x i32> <i32 8, i32 1, i32 2, i32 3, i32 4, i32 5, i32 6, i32 7>
  %".202" = fadd <8 x float> %".197", %".201"
  %".203" = fcmp olt <8 x float> %".202", splat (float              0x0)
  %".204" = select  <8 x i1> %".203", <8 x float> splat (float              0x0), <8 x float> %".202"
  %".205" = getelementptr inbounds float, ptr %".12", i64 %".196"
  %".206" = shufflevector <8 x float> %".204", <8 x float> <float undef, float undef, float undef, float undef, float undef, float undef, float undef, float undef>, <1 x i32> <i32 0>
  store <1 x float> %".206", ptr %".205", align 4
  br label %"after.10"
after.10:
  br label %"after.8"
then.5:
  %".212" = udiv i64 %".94", 1
  %".213" = sub i64 %".94", %".212"
  %".214" = getelementptr inbounds i32, ptr %".16", i64 %".212"
  %".215" = load i32, ptr %".214", align 4
  %".216" = sext i32 %".215" to i64
  %".217" = add i64 %".63", %".216"
  %".218" = add i64 %".217", %".159"
  %".219" = fadd <8 x float> %".113", %".163"
  %".220" = getelementptr inbounds float, ptr %".22", i64 %".218"
  %".221" = load <8 x float>, ptr %".220", align 4
  %".222" = fadd <8 x float> %".219", %".221"
  %".223" = fcmp olt <8 x float> %".222", splat (float              0x0)
  %".224" = select  <8 x i1> %".223", <8 x float> splat (float              0x0), <8 x float> %".222"
  %".225" = getelementptr inbounds float, ptr %".12", i64 %".218"
  store <8 x float> %".224", ptr %".225", align 4
  br label %"after.11"
after.11:
  %".228" = add i64 %".94", 1
  %".229" = icmp slt i64 %".228", %".53"
  br i1 %".229", label %"then.6", label %"after.12"
then.6:
  %".231" = udiv i64 %".228", 1
  %".232" = sub i64 %".228", %".231"
  %".233" = getelementptr inbounds i32, ptr %".16", i64 %".231"
  %".234" = load i32, ptr %".233", align 4
  %".235" = sext i32 %".234" to i64
  %".236" = add i64 %".63", %".235"
  %".237" = add i64 %".236", %".159"
  %".238" = fadd <8 x float> %".114", %".163"
  %".239" = getelementptr inbounds float, ptr %".22", i64 %".237"
  %".240" = load <8 x float>, ptr %".239", align 4
  %".241" = fadd <8 x float> %".238", %".240"
  %".242" = fcmp olt <8 x float> %".241", splat (float              0x0)
  %".243" = select  <8 x i1> %".242", <8 x float> splat (float              0x0), <8 x float> %".241"
  %".244" = getelementptr inbounds float, ptr %".12", i64 %".237"
  store <8 x float> %".243", ptr %".244", align 4
  br label %"after.12"
after.12:
  br label %"after.8"
}

declare <8 x float> @"llvm.fmuladd.v8f32"(<8 x float> %".1", <8 x float> %".2", <8 x float> %".3")

define void @"share"(ptr %".1")
{
entry:
  %".3" = load ptr, ptr %".1", align 8
  %".4" = getelementptr inbounds i64, ptr %".1", i64 1
  %".5" = load i64, ptr %".4", align 8
  %".6" = load ptr, ptr %".3", align 8
  %".7" = getelementptr inbounds ptr, ptr %".6", i64 1
  %".8" = load ptr, ptr %".7", align 8
  %".9" = getelementptr inbounds i64, ptr %".1", i64 1
  %".10" = load i64, ptr %".9", align 8
  %".11" = icmp eq i64 %".10", 1
  %".12" = ptrtoint ptr %".8" to i64
  %".13" = icmp ne i64 %".12", 0
  br i1 %".11", label %"then", label %"else"
then:
  br label %"after"
else:
  br i1 %".13", label %"then.1", label %"else.1"
after:
  %".25" = phi  i64 [0, %"then"], [%".23", %"after.1"]
  br label %"loop"
then.1:
  %".17" = call i32 %".8"()
  %".18" = sext i32 %".17" to i64
  br label %"after.1"
else.1:
  %".20" = getelementptr inbounds i64, ptr %".1", i64 2
  %".21" = atomicrmw add ptr %".20", i64 1 monotonic
  br label %"after.1"
after.1:
  %".23" = phi  i64 [%".18", %"then.1"], [%".21", %"else.1"]
  br label %"after"
loop:
  %".27" = phi  i64 [0, %"after"], [%".45", %"done"]
  %".28" = icmp slt i64 %".27", %".5"
  br i1 %".28", label %"body", label %"after.2"
body:
  %".30" = add i64 %".25", %".27"
  %".31" = icmp slt i64 %".30", %".5"
  %".32" = sub i64 %".30", %".5"
  %".33" = select  i1 %".31", i64 %".30", i64 %".32"
  %".34" = add i64 %".33", 1
  %".35" = mul i64 %".34", 8
  %".36" = getelementptr inbounds i64, ptr %".1", i64 %".35"
  %".37" = getelementptr inbounds i64, ptr %".36", i64 1
  %".38" = load i64, ptr %".37", align 8
  br label %"next"
after.2:
  ret void
next:
  %".40" = atomicrmw add ptr %".36", i64 1 monotonic
  %".41" = icmp slt i64 %".40", %".38"
  br i1 %".41", label %"work", label %"done"
work:
  call void @"task"(ptr %".3", i64 %".40", i64 %".25")
  br label %"next"
done:
  %".45" = add i64 %".27", 1
  br label %"loop"
}

define void @"run"(ptr %".1", i64 %".2")
{
entry:
  %".4" = icmp sgt i64 %".2", 1
  %".5" = select  i1 %".4", i64 %".2", i64 1
  %".6" = add i64 %".5", 1
  %".7" = mul i64 %".6", 8
  %".8" = alloca i64, i64 %".7", align 64
  store ptr %".1", ptr %".8", align 8
  %".10" = getelementptr inbounds i64, ptr %".8", i64 1
  store i64 %".5", ptr %".10", align 8
  %".12" = getelementptr inbounds i64, ptr %".8", i64 2
  store i64 0, ptr %".12", align 8
  %".14" = getelementptr inbounds i64, ptr %".1", i64 1
  %".15" = load i64, ptr %".14", align 8
  br label %"loop"
loop:
  %".17" = phi  i64 [0, %"entry"], [%".32", %"body"]
  %".18" = phi  i64 [0, %"entry"], [%".23", %"body"]
  %".19" = icmp slt i64 %".17", %".5"
  br i1 %".19", label %"body", label %"after"
body:
  %".21" = add i64 %".17", 1
  %".22" = mul i64 %".15", %".21"
  %".23" = udiv i64 %".22", %".5"
  %".24" = mul i64 %".23", %".5"
  %".25" = sub i64 %".22", %".24"
  %".26" = add i64 %".17", 1
  %".27" = mul i64 %".26", 8
  %".28" = getelementptr inbounds i64, ptr %".8", i64 %".27"
  store i64 %".18", ptr %".28", align 8
  %".30" = getelementptr inbounds i64, ptr %".28", i64 1
  store i64 %".23", ptr %".30", align 8
  %".32" = add i64 %".17", 1
  br label %"loop"
after:
  %".34" = icmp eq i64 %".5", 1
  br i1 %".34", label %"then", label %"else"
then:
  call void @"share"(ptr %".8")
  br label %"after.1"
else:
  %".38" = load ptr, ptr %".1", align 8
  %".39" = load ptr, ptr %".38", align 8
  %".40" = trunc i64 %".5" to i32
  call void %".39"(ptr @"share", ptr %".8", i32 %".40", i32 0)
  br label %"after.1"
after.1:
  ret void
}
